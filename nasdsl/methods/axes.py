"""The axes along which gradient methods differ, as settings that every one of them has.

Takes nothing, returns settings. A method is a point on these axes: how variables become weights, how
edges are weighed, what the gradient of the variables is, when they step, and what is added to their
loss. What does not combine is refused with its reason (`nasdsl.methods.gradient`).
"""

from __future__ import annotations

from nasdsl.methods.base import Setting

_CBO = "Maile et al. 2021, k8lion/DARTS-PRIME"
_PC = "PC-DARTS"
_SHEET = "DARTS"
_TOPOLOGY = "reconstruction: TopoNAS gives no value"
_OURS = "nasdsl"

RELAXATION = (
    Setting(
        "activation",
        "compile",
        "softmax",
        "how operation variables become weights",
        "DARTS, section 2.2",
        choices=("softmax", "clipped", "gumbel", "concrete", "dirichlet"),
    ),
    Setting(
        "topology",
        "compile",
        "sum",
        "weights of edges: `sum` none, `softmax` over a node's edges, `subsets` explicit topology variables",
        "DARTS; PC-DARTS; TopoNAS",
        choices=("sum", "softmax", "subsets"),
    ),
    Setting(
        "none",
        "compile",
        "auto",
        "an entry for no connection on edges that derivation may leave out; "
        "auto: not with the clipped activation or topology=subsets",
        "DARTS, section 3.1.1",
        choices=("auto", "true", "false"),
    ),
    Setting(
        "partial_channels",
        "compile",
        1,
        "candidates see one of this many parts of the channels",
        _PC,
        low=1,
    ),
    Setting(
        "node_norm",
        "compile",
        "auto",
        "batch norm behind every node; auto: with the clipped activation",
        _CBO,
        choices=("auto", "true", "false"),
    ),
    Setting(
        "prune",
        "compile",
        True,
        "operations whose clipped weight reaches zero are off for ever and no longer computed",
        _CBO,
    ),
    Setting(
        "bare_weights",
        "compile",
        False,
        "a drawn choice adds the weights of candidates that do not run: zero, but for their gradient (gumbel)",
        "D-X-Y/AutoDL-Projects: on NAS-Bench-201",
    ),
    Setting(
        "lift_none",
        "compile",
        True,
        "turn `none` options into a choice of inputs where topology=subsets (NAS-Bench-201)",
        _TOPOLOGY,
    ),
    Setting(
        "inputs_init",
        "compile",
        "zeros",
        "start of variables over subsets; `balanced` gives every size of subset the same weight",
        "DOTS code: zeros",
        choices=("zeros", "balanced"),
    ),
)

TOPOLOGY = (
    Setting(
        "temperature", "search", 1.0, "temperature of the topology softmax, first epoch", _TOPOLOGY, low=1e-6
    ),
    Setting("temperature_end", "search", 1.0, "temperature, last epoch", _TOPOLOGY, low=1e-6),
    Setting(
        "temperature_schedule",
        "search",
        "constant",
        "how the temperature moves",
        "DOTS code anneals exponentially from 10 to 0.02",
        choices=("constant", "linear", "exponential"),
    ),
    Setting(
        "regulariser",
        "search",
        "v1",
        "passive-aggressive penalty of topology=subsets: v1 loose nodes, v2 inconsistent nodes, v3 residual mass",
        _TOPOLOGY,
        choices=("v1", "v2", "v3", "off"),
    ),
    Setting(
        "regulariser_form",
        "search",
        "loss",
        "`loss` adds it to the loss; `pa` takes a passive-aggressive step after Adam's",
        _TOPOLOGY,
        choices=("loss", "pa"),
    ),
    Setting("regulariser_delta", "search", 0.1, "invalidity that is tolerated", _TOPOLOGY, low=0, high=1),
    Setting(
        "regulariser_weight",
        "search",
        1.0,
        "weight of the penalty after its ramp (`loss` form)",
        _TOPOLOGY,
        low=0,
    ),
    Setting(
        "regulariser_ramp_epochs",
        "search",
        10,
        "epochs of the linear ramp of the penalty, after warm-up",
        _TOPOLOGY,
        "epochs",
        low=0,
    ),
    Setting(
        "pa_aggressiveness",
        "search",
        1.0,
        "largest passive-aggressive step after the ramp (C of PA-I, `pa` form)",
        _TOPOLOGY,
        low=0,
    ),
)

NOISE = (
    Setting(
        "noise_temperature",
        "search",
        1.0,
        "temperature of noisy logits (activation gumbel or concrete), first epoch",
        "GDAS, SNAS",
        low=1e-6,
    ),
    Setting(
        "noise_temperature_end", "search", 1.0, "temperature of noisy logits, last epoch", "GDAS", low=1e-6
    ),
    Setting(
        "noise_temperature_schedule",
        "search",
        "linear",
        "how the temperature of noisy logits moves",
        "D-X-Y/AutoDL-Projects",
        choices=("constant", "linear", "exponential"),
    ),
)

GRADIENT = (
    Setting(
        "level",
        "search",
        "bilevel",
        "`bilevel`: variables descend the loss of the other part of the data; `single`: both that of one batch",
        _SHEET,
        choices=("bilevel", "single"),
    ),
    Setting(
        "hypergradient",
        "search",
        "first",
        "gradient of the variables: `first` order, second order by `finite` differences, or `exact`",
        "DARTS, section 2.3",
        choices=("first", "finite", "exact"),
    ),
    Setting(
        "finite_radius",
        "search",
        0.01,
        "perturbation of the weights over the norm of their gradient (hypergradient=finite)",
        "DARTS, section 2.3",
        low=1e-8,
    ),
)

SCHEDULE = (
    Setting(
        "schedule",
        "search",
        "alternate",
        "when variables step: every so many weight steps, or `informed` by the Fisher trace",
        _CBO,
        choices=("alternate", "informed"),
    ),
    Setting(
        "weight_steps",
        "search",
        1.0,
        "weight steps for one of the variables (alternate: a whole number); informed: "
        "weight steps without one for each with one, in the long run",
        _CBO,
        low=0.01,
    ),
    Setting(
        "fisher_smoothing",
        "search",
        1.0,
        "part of the newest Fisher trace in its running mean (informed)",
        _CBO,
        low=1e-4,
        high=1,
    ),
    Setting(
        "threshold_growth",
        "search",
        1.05,
        "factor of the threshold after an iteration without a step of the variables (informed)",
        _CBO,
        low=1.000001,
    ),
    Setting(
        "informed_split",
        "search",
        False,
        "give the weights the part s/(1+s) of the data, as often as they step alone (informed)",
        _CBO,
    ),
)

CONSTRAINTS = (
    Setting(
        "proximity",
        "search",
        "off",
        "penalty on the distance of weights from their projection: `plain`, or `adjusted` to their entropy",
        _CBO,
        choices=("off", "plain", "adjusted"),
    ),
    Setting("proximity_weight", "search", 1e-3, "rho of the proximity penalty", _CBO, low=0),
    Setting("admm", "search", False, "ADMM regulariser with its dual variables", _CBO),
    Setting("admm_weight", "search", 1e-3, "rho of the ADMM regulariser", _CBO, low=0),
    Setting(
        "admm_period",
        "search",
        9,
        "steps of the variables between updates of projection and dual variables",
        _CBO,
        low=1,
    ),
    Setting(
        "admm_dual",
        "search",
        "raw",
        "what dual variables add up: `raw` variables, as published, or their `weights`",
        _CBO,
        choices=("raw", "weights"),
    ),
    Setting(
        "constraint_norm",
        "search",
        "plain",
        "norm of both penalties: `plain`, as in the published code, or `squared`",
        _CBO,
        choices=("plain", "squared"),
    ),
    Setting(
        "projection",
        "search",
        "live",
        "what is projected onto: architectures of operations that are left, or `legacy` of all",
        f"{_CBO}; live: nasdsl",
        choices=("live", "legacy"),
    ),
    Setting(
        "beta_decay",
        "search",
        0.0,
        "growth of the weight of beta-decay an epoch; 0 for none",
        "Ye et al. 2022, Sunshine-Ye/Beta-DARTS",
        "1/epoch",
        low=0,
    ),
    Setting(
        "dirichlet_kl",
        "search",
        0.0,
        "weight of the divergence from Dir(1) (activation dirichlet)",
        "DrNAS, section 3.2",
        low=0,
    ),
    Setting(
        "resource_weight",
        "search",
        0.0,
        "weight of the logarithm of the expected multiply-accumulates of operations; 0 for none",
        "SNAS, section 2.4; its README: 1.5e-3",
        low=0,
    ),
)

WATCH = (
    Setting(
        "hessian_iterations",
        "search",
        5,
        "power iterations an epoch for the dominant eigenvalue of the Hessian of the variables; 0 for none",
        "Zela et al. 2020",
        low=0,
    ),
    Setting(
        "early_stop",
        "search",
        "off",
        "stop the search when a cell has two skip connections, the eigenvalue jumps, or the ranking stays",
        "DARTS+ (Liang et al. 2019); Zela et al. 2020",
        choices=("off", "skip", "eigenvalue", "ranking"),
    ),
)

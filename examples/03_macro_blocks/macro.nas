# A space without a fixed cell: every block of every stage makes its own choice,
# and a small cell is used once with shared decisions and once with decisions of each use.

space macro {
  doc "Blocks that choose for themselves; independent cells."
  param blocks = 2
  param widths = [8, 16]
  param classes = 10
  input image(3, 16)

  # An inverted bottleneck; it has a shortcut where the shape allows one.
  op mb(k, e; out, stride=1) = if stride == 1 and cin == out then sum(id, f) else f
    where f = conv(1, e*cin) >> bn >> relu >> dwconv(k, stride=stride) >> bn >> relu >> conv(1, out) >> bn

  op stage(n, out) = repeat n as i {
    choose { small: mb(3, 2), wide: mb(3, 4), far: mb(5, 2) } with stride = (if i == 1 then 2 else 1)
  }

  cell mixer(x) {
    a = x >> choose { relu, swish }
    b = a >> conv(3) >> bn
    return sum(x, b)
  }

  network {
    stem:   conv(3, 8) >> bn
    stage1: stage(blocks, widths[1])
    stage2: stage(blocks, widths[2])
    tied:   repeat 2 { mixer }
    own:    repeat 2 { independent mixer }
    head:   global_pool >> linear(classes)
  }
}

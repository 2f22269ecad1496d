# NATS-Bench, the size search space (Dong, Liu, Musial, Gabrys: TPAMI 2021, section 3.2).
#
# Count: 8^5 = 32,768; all of them are different networks.
# The candidate is the best cell of the topology space, five times, each with a width of its own; the
# third and the fifth cell halve the resolution. Decisions are tied: a width is chosen once and named.

space nats_size {
  doc "NATS-Bench size space (Dong et al., TPAMI 2021): five widths."

  param classes    = 100
  param resolution = 32
  width[1..5] = choose { 8..64 step 8 }
  input image(3, resolution, resolution)

  op rcb(k; C, stride=1) = relu >> conv(k, C, stride=stride) >> bn
  op skip(; C, stride=1) = if cin == C and stride == 1 then id else relu >> conv(1, C, stride=stride) >> bn
  op residual(; C)       = sum(rcb(3, stride=2) >> rcb(3), avg_pool(2, stride=2, pad=0) >> conv(1, C))

  cell best(x; C) {
    a = x >> rcb(3)
    b = sum(x >> rcb(3), a >> rcb(3))
    return sum(x >> skip, a >> rcb(3), b >> rcb(3))
  }

  network {
    stem:  conv(3, width[1]) >> bn
    cell1: best(C=width[1])
    down1: residual(C=width[2])
    cell2: best(C=width[3])
    down2: residual(C=width[4])
    cell3: best(C=width[5])
    head:  bn >> relu >> global_pool >> linear(classes)
  }
}

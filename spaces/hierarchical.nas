# A hierarchical space: cells whose edges are cells (after Liu, Simonyan, Vinyals, Fernando, Kavukcuoglu:
# Hierarchical Representations for Efficient Architecture Search, ICLR 2018, section 2).
#
# Count: 42,385,064 encodings: a motif that nobody picked has no decisions.
# Departure: two levels, two motifs of three nodes, and pre-activation blocks, to keep it small.

space hierarchical {
  doc "Cells whose edges are cells (after Liu et al., ICLR 2018)."

  param C          = 16
  param N          = 2
  param classes    = 10
  param resolution = 32
  input image(3, resolution, resolution)

  op rcb(k; stride=1) = relu >> conv(k, stride=stride) >> bn
  op down(out)        = relu >> conv(3, out, stride=2) >> bn
  set primitives = { none, id, rcb(1), rcb(3), max_pool(3) }

  cell motif(x) {
    n[1..2] = sum of all from (x, earlier) via choose primitives
    return n[2]
  }
  cell motif2 = motif()
  cell top(x) {
    m[1..3] = sum of all from (x, earlier) via choose { none, rcb(3), motif, motif2 }
    return m[3]
  }

  network {
    stem:  conv(3, C) >> bn
    body1: repeat N { top }
    down1: down(2*C)
    body2: repeat N { top }
    down2: down(4*C)
    body3: repeat N { top }
    head:  global_pool >> linear(classes)
  }
}

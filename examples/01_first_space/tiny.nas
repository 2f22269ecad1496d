# The smallest space worth searching: one cell of two nodes, two operations to choose from.

space tiny {
  doc "Two nodes, two operations: 18 architectures."
  param C = 8
  param classes = 10
  input image(1, 8)

  op sep(k; C) = relu >> dwconv(k) >> conv(1, C) >> bn

  cell block(x; C) {
    n[1..2] = sum of choose 1 from (x, earlier) via choose { skip: id, sep: sep(3), wide: sep(5) }
    return n[2]
  }

  network {
    stem: conv(3, C) >> bn
    body: repeat 2 { block }
    head: global_pool >> linear(classes)
  }
}

# The same cell three times, with three ways to say how many inputs a node takes.

space pick {
  doc "Exactly two inputs, one to three, or any non-empty set of them."
  param C = 8
  param classes = 10
  input image(3, 16)

  set ops(; C) = { skip: id, conv: relu >> conv(3, C) >> bn }

  cell exactly(p2, p1; C) {
    a = p2 >> conv(1, C)
    b = p1 >> conv(1, C)
    n[1..3] = sum of choose 2 from (a, b, earlier) via choose ops
    return concat(n)
  }

  cell between(p2, p1; C) {
    a = p2 >> conv(1, C)
    b = p1 >> conv(1, C)
    n[1..3] = sum of choose 1..3 from (a, b, earlier) via choose ops
    return concat(n)
  }

  cell anything(p2, p1; C) {
    a = p2 >> conv(1, C)
    b = p1 >> conv(1, C)
    n[1..3] = sum of choose 1.. from (a, b, earlier) via choose ops
    return concat(n)
  }

  network {
    stem:   conv(3, C) >> bn
    first:  exactly
    second: between
    third:  anything
    head:   global_pool >> linear(classes)
  }
}

# NAS-Bench-101 (Ying, Klein, Real, Christiansen, Murphy, Hutter: ICML 2019, section 2 and appendix S.1).
#
# Count: 423,624 labelled graphs in the benchmark's own sense (`nasdsl count nasbench101 --distinct=published`),
# in 77,820,021 encodings. Operations stand on nodes; at most 9 edges, live ones; the members of the output
# share its width, any other vertex is as wide as its widest reader, and one that nobody reads is not built.
# Departure: the benchmark writes a cell as a matrix; here vertex 1 to 5 choose their inputs, and a vertex
# that is not in the matrix is one that nothing reads.

space nasbench101 {
  doc "NAS-Bench-101 (Ying et al., ICML 2019): at most 7 vertices and 9 live edges."
  distinct by nasbench101

  param C       = 128
  param N       = 3
  param classes = 10
  input image(3, 32, 32)

  op cbr(k; C) = conv(k, C) >> bn >> relu

  cell vertex(x; C) {
    v[1..5] = sum of choose 1.. from (x via cbr(1), earlier via truncate(C)) >> choose { cbr(3), cbr(1), max_pool(3) }
    y = concat of choose 0.. from (v) into split(C)
    r = sum of choose 0.. from (x) via cbr(1)
    return sum(y, r)
  }
  limit edges <= 9
  limit edges >= 1

  network {
    stem:  cbr(3, C=C)
    body1: repeat N { vertex(C=C) }
    down1: max_pool(2, stride=2, pad=0)
    body2: repeat N { vertex(C=2*C) }
    down2: max_pool(2, stride=2, pad=0)
    body3: repeat N { vertex(C=4*C) }
    head:  global_pool >> linear(classes)
  }
}

# A residual network of fully connected layers for feature vectors (tables, embeddings): nothing in the
# language is tied to images. After Gorishniy, Rubachev, Khrulkov, Babenko: Revisiting Deep Learning Models
# for Tabular Data, NeurIPS 2021, section 3.2 (their ResNet) and its search ranges.
#
# Count: 5 * (6 + 6^2 + 6^3 + 6^4) = 7,770: a width, one to four blocks, and for each block how much wider
# its hidden layer is and which activation it has. All of them are different networks.
# Departure: layer normalisation instead of batch normalisation, so that any batch size trains.

space residual_mlp {
  doc "Residual MLP for feature vectors (after Gorishniy et al., NeurIPS 2021): width, depth, expansion, activation."

  param features = 64
  param classes  = 10
  width = choose { 32..160 step 32 }
  input vector(features)

  op block(e) = sum(id, layer_norm >> linear(e*cin) >> activation >> linear(cin))
    where activation = choose { relu, gelu }

  network {
    stem:   linear(width)
    blocks: repeat choose { 1..4 } { block(e=choose { 1, 2, 4 }) }
    head:   layer_norm >> relu >> linear(classes)
  }
}

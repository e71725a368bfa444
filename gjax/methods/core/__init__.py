"""What all methods share: state, contract, optimisers, players, checks, and the grounds they stand on."""

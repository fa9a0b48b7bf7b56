"""Library: parts that imitate those of a start network, and candidates assembled from them."""

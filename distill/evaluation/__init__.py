"""How good a model is, and how near its teacher."""

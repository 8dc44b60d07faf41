"""Students: backbones, embedding and class heads."""

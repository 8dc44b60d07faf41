"""Apache Beam pipelines of distill: `embed` lets a teacher label an image list, `engines` names where it can run."""

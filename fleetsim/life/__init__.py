"""The life of nodes: delivery, failure, cascade, retirement, and what all of it earns and costs."""

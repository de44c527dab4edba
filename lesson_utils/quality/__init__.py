"""How good are samples? A judge, metrics, experiments over samplers, reports."""

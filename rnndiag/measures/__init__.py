"""What is measured, one quantity a file, each a function of a layer, its trajectory or its Jacobian.

A measure returns a frozen dataclass of plain numbers, which stands in the JSON report as it is.
"""

"""Names of the columns that are computed from values and rewards."""


class Postprocessing:
    """The columns of advantages, and of what values are to become."""

    ADVANTAGES = "advantages"
    VALUE_TARGETS = "value_targets"

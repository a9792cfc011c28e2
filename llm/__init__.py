"""The same objectives on transformer policies. Nothing has moved in yet."""

"""Former rows are brought over range by range, and each range is compared at once."""

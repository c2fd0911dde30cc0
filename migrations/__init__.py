"""Plain SQL in dbmate's format; `orchestra migrate` applies it, and so can dbmate or psql by hand."""

"""All SQL. Each function is one short transaction or one statement; nothing here waits for anything but Postgres."""

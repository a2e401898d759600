"""Before any row: what is stored is judged against the source and made to fit."""

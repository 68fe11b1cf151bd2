"""Units, closed forms and exact rules of molecular Hessians."""

"""Tables of resolutions."""

from collections.abc import Mapping

from rich.table import Table

ROWS = {
    "uvw_u_res_68pct": ("u", "mm", 10.0),
    "uvw_v_res_68pct": ("v", "mm", 10.0),
    "uvw_w_res_68pct": ("w", "mm", 10.0),
    "uvw_w_bias": ("w, bias", "mm", 10.0),
    "energy_rel_68pct": ("energy", "%", 100.0),
    "timing_res_68pct": ("time", "ps", 1000.0),
    "timing_bias": ("time, bias", "ps", 1000.0),
    "emission_res_68pct": ("emission if at the origin", "ps", 1000.0),
    "emission_bias": ("the same, bias", "ps", 1000.0),
    "angle_resolution_68pct": ("direction", "°", 1.0),
}
"""Metrics of a table: what, unit, units in that of the metric."""
COVERAGES = {
    **{axis: f"uvw_{axis}_res_68pct" for axis in ("u", "v", "w")},
    "energy": "energy_rel_68pct",
    "timing": "timing_res_68pct",
    "direction": "angle_resolution_68pct",
}


def resolution_table(title: str, values: Mapping[str, float], split: str) -> Table:
    """Resolutions of the network beside those of the conventional estimates.

    Args:
        title: Heading.
        values: Metrics by full name, such as ``val/uvw_u_res_68pct``.
        split: ``val`` or ``test``.
    """
    table = Table(title=title)
    for column in ("68 % half-width", "network", "conventional", "above 48 MeV", "conventional"):
        table.add_column(column, justify="left" if column.startswith("68") else "right")
    table.add_column("coverage", justify="right")
    covered = {metric: f"{split}/{name}_coverage_68" for name, metric in COVERAGES.items()}
    for metric, (what, unit, factor) in ROWS.items():
        names = [f"{split}/{prefix}{metric}" for prefix in ("", "rule_", "signal_", "signal_rule_")]
        if names[0] not in values:
            continue
        cells = [f"{factor * values[name]:.3g}" if name in values else "" for name in names]
        share = values.get(covered.get(metric, ""))
        table.add_row(f"{what} ({unit})", *cells, "" if share is None else f"{share:.3f}")
    for name in ("n_gamma_accuracy", "n_gamma_balanced_accuracy", "score", "loss"):
        if f"{split}/{name}" in values:
            table.add_row(name, f"{values[f'{split}/{name}']:.4g}", "", "", "", "")
    return table

"""The card of a bundle: its contents, measured scores, and licences.

In: the manifest. Out: the text of README.md. Reads and writes no file; knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def card(manifest: Mapping[str, Any]) -> str:
    """The text of README.md."""
    info = manifest["card"]
    kb, recognition, linking = info.get("kb", {}), info.get("recognition", {}), info.get("linking", {})
    sources = [f"{n:,} of {name}" for row in manifest["linkers"] for name, n in row["sources"].items()]
    codes = manifest.get("codes", {"held": {}, "left_out": {}})
    lines = [
        "# Disease mentions with concepts",
        "",
        "Finds diseases in text and names their UMLS concepts: `mentionforge annotate NOTES --bundle THIS --to brat --out OUT`.",
        "**Not a medical device. It misses diseases, finds some that are none, and names wrong concepts; nobody should decide about a patient by it.**",
        "",
        "| | |",
        "|---|---|",
        f"| recognizer | {'/'.join(recognition.values())} |",
        f"| linker | {'/'.join(linking.values())} |",
        f"| knowledge base | {kb.get('name')} ({kb.get('source')}), {manifest['concepts']:,} concepts in the index |",
        f"| index entries | {', '.join(sources)} |",
        f"| codes | {', '.join(f'{name} {n:,}' for name, n in codes['held'].items()) or 'none'} |",
        *([f"| licensed codes left out | {', '.join(f'{name} {n:,}' for name, n in codes['left_out'].items())} |"] if codes["left_out"] else []),
        f"| no concept below | {manifest['nil_threshold'] if manifest['nil_threshold'] is not None else 'no threshold was measured'} |",
        f"| made with | mentionforge {manifest['mentionforge']}, revision {manifest['git_revision']} |",
        "",
        "## Measured",
        "",
        "On the test split of the corpora it was made from; expect less on other text.",
        "",
    ]
    measured = info.get("measured", [])
    if measured:
        lines += ["| task | corpus | mentions | metric | per cent | n |", "|---|---|---|---|---|---|"]
        rows = [m for m in measured if m["value"] is not None]
        lines += [f"| {m['task']} | {m['corpus']} | {m['bucket']} | {m['metric']} | {100 * m['value']:.1f} | {m['n']:,} |" for m in rows]
    else:
        lines += ["Nothing: the experiment did not score these cells."]
    licensed = ", ".join(manifest["licensed"]) or "none that the settings call licensed"
    trained = [name for name, is_licensed in info.get("trained_on", {}).items() if is_licensed]
    lines += ["", "## Licence", "", f"Licensed text in it: {licensed}. Weights, names and corpora keep their own licences."]
    if trained:
        lines += [f"Weights were trained on {', '.join(trained)}, which {'are' if len(trained) > 1 else 'is'} under an agreement: it may reach them."]
    return "\n".join([*lines, ""])

"""The examples of docs/prompts.md: every YAML block is a valid overlay, and every text is what a template gives."""

import re
from typing import Any

import pytest
import yaml

from checkout import ROOT
from mentionforge.config import load_config
from mentionforge.config_files import merge
from mentionforge.errors import UserError
from mentionforge.generation.shipped_prompts import SHIPPED
from mentionforge.generation.templates import Asked, ShownExample, prompt_text, sentence_text

PAGE = (ROOT / "docs/prompts.md").read_text(encoding="utf-8")
GOUT = Asked(
    ("Gout", "podagra", "gouty arthritis"),
    "Crystals of urate inflame a joint.",
    ("T047",),
    ("Crystal arthropathy",),
    (ShownExample("Fever", "No <1CUI> fever </1CUI> since Monday."),),
)
OTHERS = {
    "phenotype": Asked(("Tremor", "trembling"), "Involuntary rhythmic movement of a limb."),
    "chemical": Asked(("Aspirin", "acetylsalicylic acid")),
    "procedure": Asked(("Appendectomy", "removal of the appendix")),
    "german": Asked(("Gicht", "Podagra")),
    "french": Asked(("Goutte", "podagre")),
    "spanish": Asked(("Gota", "podagra")),
}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.M | re.S)


def overlaid(block: str) -> Any:
    return load_config(merge(yaml.safe_load((ROOT / "config.yaml").read_text()), yaml.safe_load(block)))


def words(text: str) -> str:
    """A text with single blanks, since the page breaks lines."""
    return " ".join(text.split())


@pytest.mark.parametrize("block", blocks("yaml"))
def test_examples_of_the_page_are_valid_overlays(block: str) -> None:
    overlaid(block)


def test_texts_of_the_page_are_what_the_templates_give() -> None:
    given = [prompt_text(prompt, GOUT) for block in blocks("yaml") for prompt in overlaid(block).prompts.values() if prompt.template]
    given += [prompt_text(SHIPPED[name], OTHERS.get(name, GOUT)) for name in SHIPPED if SHIPPED[name].template]
    assert {words(text) for text in given} == {words(text) for text in blocks("text")}
    assert all(f"`{name}`" in PAGE for name in SHIPPED)


def test_the_default_on_the_page_is_the_default() -> None:
    shown = next(yaml.safe_load(block)["prompts"]["instruction"] for block in blocks("yaml") if "instruction:\n" in block)
    for asked in (GOUT, Asked(("Gout",)), Asked(("Gout", *"abcde"), " ".join(map(str, range(80))))):
        assert shown["template"] and prompt_text(SHIPPED["instruction"].model_copy(update=shown), asked) == prompt_text(SHIPPED["instruction"], asked)


def test_sentences_of_the_page_hold_the_name() -> None:
    config = next(overlaid(block) for block in blocks("yaml") if "befund" in block)
    prompt = config.generators["template"].sentences
    assert [sentence_text(prompt, i, GOUT, "podagra") for i in range(2)] == ["Bei der Patientin besteht podagra.", "Diagnose: podagra."]
    assert config.generators["clinical"].sentences == SHIPPED["clinical"]


def test_the_error_of_the_page_is_the_error() -> None:
    shown = re.search(r"^error: (.*) \(my\.yaml:3\)$", PAGE, re.M)
    with pytest.raises(UserError) as refused:
        overlaid("prompts: {short: {template: 'About {{ nam }}.'}}")
    assert shown and str(refused.value) == shown[1]

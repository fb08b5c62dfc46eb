"""Words that look like slips of the pen for one another and are not: `hyperparathyroidism` and `hypoparathyroidism`, `arthritis` and `arteritis`.

What tells them apart does not depend on a knowledge base: the parts that medical words are made of, and a list of words that are in use.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from pathlib import Path

UNLIKE = re.compile(r"(?<!\w)(?:(?:non|pseudo|quasi)[-‐‑–\s]\s?|pre[-‐‑]\s?)\Z")
"""What makes another thing of the word behind it; to be searched in what stands before it."""

_FIRST = """
hyper hypo macro micro inter intra infra supra super sub brady tachy endo ecto exo epi para peri mono poly oligo multi iso homo hetero ab ad ana
cata retro antero postero lateral medio uni bi tri tetra quadri hemi semi mega meso meta neo pan normo ortho syn auto
leuko erythro thrombo lympho granulo mono baso eosino neutro pancyto
"""

_ROOTS = """
arthr arter arteri angi aden adren andr gyn cardi cephal cerebr cerebell chol cholangi choledoch chondr col colp corne cost cyst cyt dacry dermat
duoden encephal enter esophag gastr gingiv gloss hepat hydr hyster ile ili ileo ilio jejun kerat ket laryng lip lymph mamm mast mening metr muc myc myel
myo mycos necr nephr neur oophor ophthalm orch oste pharyng phleb pleur pneum proct prostat prostr pyel pyr rachi rect ren retin rhin
salping sarc scler sigmoid sinus splen spondyl stomat syring tend thromb thym thyr thyro tonsill trache ureter urethr uter vagin vas ven ventricul vesic
perone perine peritone ileum ilium ileus carp tars tibi fibul humer femor palat patell natr kal calc chlor glyc glucos phosphat magnes
lacrim nas oral aural rube rubell rubeol roseol variol
"""

_LAST = """
itis osis oses oma emia uria iasis oid pathy plasia plegia paresis algia penia cytosis rrhea rrhagia phagia phasia phonia phoria pnea praxia trophy
tropy tropia ectomy otomy ostomy scopy gram graph lysis stasis megaly malacia sclerosis stenosis genic genesis philia phobia opia opsia ptosis cele dynia
kinesia kinesis tonia taxia thymia lalia lexia gnosia mnesia esthesia centesis ectasis ectasia rrhexis schisis somia dactyly cephaly blastoma sarcoma
inosis olithiasis ophagia olysis ia ic iac
"""

PARTS = frozenset(f"{_FIRST} {_ROOTS} {_LAST}".split())
"""Parts of words, by each of which another makes another word."""

ENDS = tuple(sorted(part for part in PARTS if re.search(r"(?:ia|is|oma|oid|pathy|plegia|omy|scopy|megaly|cele|trophy|tropy|dactyly|cephaly)$", part)))
_LONGEST = max(map(len, PARTS))


def confusable(one: str, other: str) -> bool:
    """Whether two case-folded words differ by one part that means something, like `macro` and `micro`, or `itis` and `osis`."""
    longer = len(other) - len(one)
    for start, end in _parts_of(one):
        part = other[start : end + longer]
        if part in PARTS and part != one[start:end] and other.startswith(one[:start]) and other.endswith(one[end:]):
            return True
    return False


@functools.lru_cache(maxsize=1 << 14)
def _parts_of(word: str) -> tuple[tuple[int, int], ...]:
    """Where the known parts of a word begin and end."""
    return tuple((i, j) for i in range(len(word)) for j in range(i + 2, min(i + _LONGEST, len(word)) + 1) if word[i:j] in PARTS)


def of_medicine(word: str) -> bool:
    """Whether a case-folded word ends like a finding or disease."""
    return word.endswith(ENDS)


_SAID = """
abscessed access artist blending blister bluster bolster braise breeding bullion cancel canceled cancels cannier canter cantor champs chilis choler clamps
cramped crimps cruise drawing drawling drops drowsy dwelling etching fatigued fractured freezing heroine hernial legion lesson limbing mange manger measure
measures medley painting plaque plaques plagued racket rackets rickety rocket rockets scarred scoring scurry seating seize seized singles smelling spelling
squeezing stoke stoked storing strain strained strains strike strikes strobe stroked strokes stroll struck swearing swelling tickets tumbler tutors weasels
wheeled
"""
_EVERYDAY = frozenset(_SAID.split())
"""Everyday words a slip away from names of diseases, which texts of biomedicine hardly have."""


@functools.cache
def _met() -> frozenset[str]:
    """What the sentence splitter `biosenter` has met in biomedical text, case-folded words among it."""
    found = importlib.util.find_spec("biosenter")
    for place in (found.submodule_search_locations or ()) if found else ():
        for path in sorted(Path(place).rglob("strings.json")):
            return frozenset(json.loads(path.read_text(encoding="utf-8")))
    return frozenset()


def in_use(word: str) -> bool:
    """Whether a case-folded word of letters is an English one, of biomedical or everyday text."""
    return word in _EVERYDAY or word in _met()

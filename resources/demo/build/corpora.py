"""Writes the three demo corpora from the frames: notes in pipe files, abstracts in PubTator.

Frame notation. `{KINDS}` draws a concept whose kind (a letter of concepts.tsv) is among KINDS, `{=group}` one of
frames.GROUPS; a leading sigil ties it to the cues of its sentence: `-` negated, `~` uncertain, `^` another person, `!`
severity, `>` course, `?` conditional, `@` body site, `&` generic. `[n:cue]`, `[u:cue]`, `[s=value:cue]`,
`[sev=value:cue]`, `[cou=value:cue]`, `[c:cue]`, `[b=CUI:cue]`, `[g:cue]` are the cues. `{C:def}` writes "name
(ABBREVIATION)". `<text|CUI#tag>` is a fixed mention; equal tags make one discontiguous mention, `CUI#a,CUI#b` puts a
text into two. `comp:`, `join:` and `mesh:` are composite, conjunctive and bare-identifier mentions.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

import frames
from umls import read_tsv

SPLITS = {"train": 60, "dev": 15, "test": 40}
COMMON = {
    "C0020538",
    "C0011860",
    "C1956346",
    "C0018802",
    "C0004238",
    "C0024117",
    "C0004096",
    "C1561643",
    "C0032285",
    "C0042029",
    "C0243026",
    "C0002871",
    "C0038454",
    "C0027051",
    "C0149871",
    "C0015967",
    "C0018681",
    "C0010200",
    "C0013404",
    "C0008031",
    "C0000737",
    "C0027497",
    "C0042963",
    "C0011991",
    "C0013604",
    "C0678222",
    "C0242379",
    "C1269683",
    "C0020649",
    "C0028754",
    "C2609414",
    "C0020676",
    "C0029408",
    "C0009402",
    "C0015672",
    "C0036572",
}
# Identifiers of concepts that have no MeSH or OMIM code in the demo release; they stay unmapped there on purpose.
UNMAPPED = {"C0001339": "D010195", "C0220981": "D000138", "C0030252": "-1"}
CLASSES = {"C0002871", "C0031117", "C0014544", "C0003469", "C1384666", "C3714756", "C0011853", "C0497327", "C0018916"}
FERTILE = {"C0085207", "C0032914", "C0032460", "C0014175"}
OLD = {"C0002395", "C0030567", "C0497327", "C0376358", "C1704272", "C0029456", "C0019557", "C0015806", "C0086543"}
CUES = {"-": "n", "~": "u", "^": "s", "!": "sev", ">": "cou", "?": "c", "@": "b", "&": "g"}
TOKEN = re.compile(r"\{[^{}]*\}|\[[a-z]+(?:=[A-Za-z0-9_]+)?:[^\]]*\]|<[^<>]*>|a\(n\)")
SLOT = re.compile(r"\{([-~^!>?@&]?)([CANGXIJMPSFLE]+|=[a-z]+)(:def)?\}")
HEADS = tuple(f"{heading} " for headings in frames.HEADINGS.values() for heading in headings)
MODIFIED = re.compile(r"^(?: (?:patients?|families|family|locus|gene|genotype|carriers)\b|-(?:related|induced))")


@dataclass
class Concept:
    """A row of concepts.tsv."""

    cui: str
    kind: str
    who: set[str]
    gene: str
    mesh: str
    omim: str
    forms: list[tuple[str, str]]  # (mark, text): "" plain, "*" plural, "=" abbreviation, "~" notes only

    @property
    def full(self) -> str:
        """First form: the name a sentence would use."""
        return self.forms[0][1]

    @property
    def abbreviation(self) -> str:
        """First abbreviation, or an empty string."""
        return next((text for mark, text in self.forms if mark == "="), "")


@dataclass
class Mention:
    """A mention under construction: its spans grow as its document does."""

    cui: str = ""
    ids: str = ""
    kind: str = "Disease"
    parts: str = ""
    attributes: dict[str, tuple[str, str]] = field(default_factory=dict)
    spans: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Document:
    """Text, mentions and relations of one document; split is the boundary between title and abstract, if any."""

    name: str
    text: str = ""
    mentions: list[Mention] = field(default_factory=list)
    relations: list[tuple[str, str]] = field(default_factory=list)
    title_end: int = 0


def load_concepts() -> dict[str, Concept]:
    """Concepts that texts may mention, by CUI."""
    concepts = {}
    for row in read_tsv("concepts.tsv"):
        if row["kind"] == "-":
            continue
        forms = [(f[0], f[1:]) if f[0] in "*=~" else ("", f) for f in row["forms"].split(";")]
        who = set(row["who"].split())
        concepts[row["cui"]] = Concept(row["cui"], row["kind"], who, row["gene"], row["mesh"], row["omim"], forms)
    return concepts


class Writer:
    """Draws concepts and surfaces for one corpus and one split after another, and renders frames into documents."""

    def __init__(self, corpus: str, concepts: dict[str, Concept]) -> None:
        """Set aside concepts and surfaces that the training split must not show."""
        self.corpus = corpus
        self.rng = random.Random(f"{corpus}-1")
        self.all = concepts
        self.rank: dict[str, int] = {}
        self.reserved: set[str] = set()
        by_kind: dict[str, list[str]] = {}
        for cui in sorted(concepts):
            by_kind.setdefault(concepts[cui].kind, []).append(cui)
        for kind in sorted(by_kind):
            cuis = by_kind[kind]
            self.rng.shuffle(cuis)
            cuis.sort(key=lambda c: c not in COMMON)
            self.rank |= {cui: i for i, cui in enumerate(cuis)}
            self.reserved |= {cui for i, cui in enumerate(cuis) if i % 9 in (1, 3, 5, 8)}
        self.held_out = {cui: self.rng.choice(c.forms[1:])[1] for cui, c in sorted(concepts.items()) if len(c.forms) > 2}
        self.split = "train"
        self.trained: Counter[str] = Counter()
        self.trained_surfaces: set[tuple[str, str]] = set()
        self.bag: dict[int, list[str]] = {}
        self.start()

    def start(self) -> None:
        """Forget the previous document: its patient, its concepts, its text."""
        rng = self.rng
        self.sex = rng.choice("mf")
        self.child = False
        self.age = rng.randint(24, 88)
        self.used: set[str] = set()
        self.written: set[str] = set()
        self.named: dict[str, str] = {}
        self.defined: set[str] = set()
        self.plural = False
        self.doc = Document("")

    def frame(self, pool: list[str]) -> str:
        """Next frame of a pool, every frame once before any comes again."""
        bag = self.bag.setdefault(id(pool), [])
        if not bag:
            bag.extend(pool)
            self.rng.shuffle(bag)
        return bag.pop()

    def allowed(self, concept: Concept, anyone: bool = False) -> bool:
        """Whether the concept fits the patient and the split."""
        if self.split == "train" and concept.cui in self.reserved:
            return False
        if anyone:
            return not concept.who & {"m", "f"}
        if concept.who & {"m", "f"} and self.sex not in concept.who:
            return False
        if (concept.cui in FERTILE and self.age > 44) or (concept.cui in OLD and self.age < 48):
            return False
        return not (("child" in concept.who and not self.child) or ("adult" in concept.who and self.child))

    def draw(self, cuis: list[str]) -> str | None:
        """One of the concepts: long-tailed in train, balanced between known and unknown ones in test."""
        cuis = sorted(set(cuis) - self.used)
        if self.split == "train":
            cuis = [c for c in cuis if c not in self.reserved]
        else:
            known = [c for c in cuis if self.trained[c]]
            fresh = [c for c in cuis if not self.trained[c]]
            share = 0.5 if self.split == "test" else 0.3
            cuis = (fresh or known) if self.rng.random() < share else (known or fresh)
        if not cuis:
            return None
        flat = 0.5 if self.split == "test" else 0.8
        weights = [(3.0 if c in COMMON else 1.0) / (1 + self.rank[c]) ** flat for c in cuis]
        return self.rng.choices(cuis, weights)[0]

    def surface(self, cui: str) -> tuple[str, str]:
        """(mark, text) for one mention of the concept."""
        forms = list(self.all[cui].forms)
        if self.corpus != "semeval":
            forms = [f for f in forms if f[0] not in "=~" or not f[0]]
        if self.split == "train":
            forms = [f for f in forms if f[1] != self.held_out.get(cui)] or forms
        elif self.trained[cui] and self.rng.random() < 0.5:
            forms = [f for f in forms if (cui, f[1].lower()) not in self.trained_surfaces] or forms
        weights = [(3.0 if i == 0 else 1.0) * {"~": 0.2, "*": 0.4}.get(f[0] if i else "", 1.0) for i, f in enumerate(forms)]
        return self.rng.choices(forms, weights)[0]

    # -- text --------------------------------------------------------------------------------------------------------
    def say(self, text: str, *mentions: Mention) -> None:
        """Append text; each of the mentions gains its span."""
        if not text:
            return
        doc = self.doc
        if re.search(r"(^|[.?!] |\n|\n- |[.\n] ?# )$", doc.text) or doc.text.endswith(HEADS):
            text = text[0].upper() + text[1:] if text[0].isascii() else text
        if doc.text.endswith("a(n) "):
            vowel = text[0].lower() in "aeiou" or re.match(r"[AEFHILMNORSX][A-Z]", text)
            doc.text = doc.text[:-5] + ("an " if vowel else "a ")
        start = len(doc.text)
        doc.text += text
        for mention in mentions:
            spans = mention.spans
            if spans and doc.text[spans[-1][1] : start].strip() == "":
                spans[-1] = (spans[-1][0], len(doc.text))
            else:
                spans.append((start, len(doc.text)))
            if mention not in doc.mentions:
                doc.mentions.append(mention)

    def mention(self, cui: str, **values: object) -> Mention:
        """A new mention of a concept, with the identifier the corpus uses."""
        return Mention(cui=cui, ids=self.identifier(cui), **values)  # type: ignore[arg-type]

    def identifier(self, cui: str) -> str:
        """MeSH or OMIM identifier; inherited diseases carry OMIM numbers in one article of three."""
        concept = self.all[cui]
        if cui in UNMAPPED:
            return UNMAPPED[cui]
        if concept.omim and (not concept.mesh or (self.corpus == "ncbi" and int(cui[1:]) % 3 == 0)):
            return f"OMIM:{concept.omim}"
        return concept.mesh

    def define(self, cui: str, attributes: dict[str, tuple[str, str]]) -> None:
        """Write "name (ABBREVIATION)" as two mentions."""
        concept = self.all[cui]
        self.say(concept.full, self.mention(cui, attributes=attributes))
        self.plural = concept.forms[0][0] == "*"
        if concept.abbreviation:
            self.say(" (")
            self.say(concept.abbreviation, self.mention(cui, attributes=attributes))
            self.say(")")
            self.defined.add(cui)

    def repeat(self, cui: str, capital: bool = False) -> None:
        """Mention a concept that the article is about: its abbreviation once that is defined."""
        concept = self.all[cui]
        if cui in self.defined and self.rng.random() < 0.75:
            mark, text = "=", concept.abbreviation
        else:
            mark, text = concept.forms[0] if self.rng.random() < 0.5 else self.surface(cui)
            if mark == "*":
                mark, text = concept.forms[0]
        text = text[0].upper() + text[1:] if capital and text[0].isascii() else text
        self.say(text, self.mention(cui))
        self.plural = mark == "*"

    # -- frames ------------------------------------------------------------------------------------------------------
    def fits(self, concept: Concept, what: str) -> bool:
        """Whether the concept is of one of the kinds, or of the group if what begins with "="."""
        return concept.full in self.groups[what[1:]] if what[0] == "=" else concept.kind in what

    groups: ClassVar[dict[str, set[str]]] = {name: set(text.split(";")) for name, text in frames.GROUPS.items()}

    def plan(self, frame: str) -> dict[int, str] | None:
        """Concepts for the slots of a frame by position; None if a slot cannot be filled."""
        before = set(self.used)
        chosen: dict[int, str] = {}
        for match in TOKEN.finditer(frame):
            slot = SLOT.fullmatch(match.group())
            key = match.group()[1:-1].split(":")[0] if match.group()[0] == "{" else ""
            cuis: list[str] | None = None
            if slot:
                other = slot[1] == "^"
                cuis = [
                    c for c, v in self.all.items()
                    if self.fits(v, slot[2]) and (self.allowed(v) if not other else self.allowed(v, anyone=True))
                    and (self.corpus == "semeval" or v.mesh or v.omim) and (not slot[3] or v.abbreviation)
                ]  # fmt: skip
            elif key in self.pools:
                cuis = [c for c in self.pools[key] if self.allowed(self.all[c])]
            elif match.group()[0] == "<":
                fixed = re.findall(r"C\d{7}", match.group())
                if (self.split == "train" and set(fixed) & self.reserved) or not all(self.allowed(self.all[c]) for c in fixed):
                    self.used = before
                    return None
            if cuis is not None:
                cui = self.draw(cuis)
                if cui is None:
                    self.used = before
                    return None
                chosen[match.start()] = cui
                self.used.add(cui)
        return chosen

    pools: dict[str, list[str]]

    def write(self, pool: list[str], tries: int = 40) -> bool:
        """Render one frame of the pool that can be filled; False if none can."""
        for _ in range(tries):
            frame = self.frame(pool)
            if frame not in self.written and self.suits(frame):
                chosen = self.plan(frame)
                if chosen is not None:
                    self.written.add(frame)
                    self.render(frame, chosen)
                    return True
        return False

    def suits(self, frame: str) -> bool:
        """Whether every named slot has a value and the frame fits the patient's age."""
        for name in re.findall(r"\{([a-z]+)(?::\w+)?\}", frame):
            if name in self.needed and name not in self.named and name not in self.pools:
                return False
        if self.age < 62 and re.search(r"etired|Elderly", frame):
            return False
        return not (self.child and re.search(r"retired|daughter|wife|Elderly|adults|smok|wine|clinic with", frame))

    needed = frozenset(["main", "gene", "use", "drug", "other", "peer", "harm"])

    def render(self, frame: str, chosen: dict[int, str]) -> None:
        """Write a frame whose slots have been filled."""
        tied: list[tuple[str, Mention]] = []
        cues: list[tuple[str, str, int, int]] = []
        tagged: dict[str, Mention] = {}
        last = 0
        for match in TOKEN.finditer(frame):
            self.say(frame[last : match.start()])
            last = match.end()
            token = match.group()
            slot = SLOT.fullmatch(token)
            if token == "a(n)":
                self.doc.text += token
            elif token[0] == "[":
                head, text = token[1:-1].split(":", 1)
                name, _, value = head.partition("=")
                self.say(text)
                cues.append((name, value, len(self.doc.text) - len(text), len(self.doc.text)))
            elif token[0] == "<":
                self.fixed(token[1:-1], tagged)
            elif match.start() in chosen and slot:
                self.slot(chosen[match.start()], slot[1], bool(slot[3]), tied)
            elif match.start() in chosen:
                _key, _, form = token[1:-1].partition(":")
                self.article_slot(chosen[match.start()], form)
            else:
                self.word(token[1:-1])
        self.say(frame[last:])
        for sigil, mention in tied:
            near = [c for c in cues if c[0] == CUES[sigil]]
            if near:
                position = mention.spans[0][0]
                name, value, start, end = min(near, key=lambda c: (c[2] > position, abs(c[2] - position)))
                mention.attributes[name] = (value or "yes", f"{start}-{end}")
        for mention in tagged.values():
            for name, value, start, end in cues:
                if name == "sev":
                    mention.attributes[name] = (value, f"{start}-{end}")

    def slot(self, cui: str, sigil: str, define: bool, tied: list[tuple[str, Mention]]) -> None:
        """Write the concept of a kind slot."""
        count = len(self.doc.mentions)
        if define and not (self.corpus != "semeval" and self.split == "train" and cui in self.reserved):
            self.define(cui, {})
        else:
            mark, text = self.surface(cui)
            self.say(text, self.mention(cui))
            self.plural = mark == "*"
        if sigil:
            tied.extend((sigil, m) for m in self.doc.mentions[count:])

    def article_slot(self, cui: str, form: str) -> None:
        """Write a feature or relative of the article's disease, or the drug article's disorder."""
        mark, text = self.surface(cui)
        if form == "Cap" and text[0].isascii():
            text = text[0].upper() + text[1:]
        self.say(text, self.mention(cui))
        self.plural = mark == "*"

    def word(self, token: str) -> None:
        """Write a pronoun, a number, an agreeing verb or a named slot of the article."""
        key, _, form = token.partition(":")
        rng = self.rng
        male = self.sex == "m"
        words = {
            "he": "he" if male else "she",
            "He": "He" if male else "She",
            "his": "his" if male else "her",
            "His": "His" if male else "Her",
            "him": "him" if male else "her",
            "man": ("boy" if male else "girl") if self.child else "man" if male else "woman",
            "boy": "boy" if male else "girl",
            "age": str(self.age),
            "n": str(rng.randint(2, 9)),
            "year": str(rng.randint(2001, 2014)),
            "day": rng.choice(["Monday", "Tuesday", "Thursday", "Saturday", "Sunday"]),
            "month": rng.choice(["January", "March", "May", "August", "October"]),
            "was": "were" if self.plural else "was",
            "is": "are" if self.plural else "is",
            "gene": self.named.get("gene", ""),
        }
        if key == "age" and self.doc.text[-3:] in (" a ", ". A ") and (words[key][0] == "8" or words[key] in ("11", "18")):
            self.doc.text = self.doc.text[:-1] + "n "
        if key in words:
            self.say(words[key])
        elif key in {"drug", "other", "peer"}:
            drug, mesh = self.named[key].split("|")
            drug = drug[0].upper() + drug[1:] if form == "Cap" else drug
            self.say(drug, Mention(ids=mesh, kind="Chemical"))
        elif form == "def":
            if self.named[key] in self.defined:
                self.repeat(self.named[key])
            else:
                self.define(self.named[key], {})
        else:
            self.repeat(self.named[key], form == "Cap")

    def fixed(self, body: str, tagged: dict[str, Mention]) -> None:
        """Write a mention that the frame itself spells out."""
        text, keys = body.split("|", 1)
        if keys.startswith(("comp:", "join:")):
            kind, cuis, *parts = keys.split(":", 2)
            ids = [self.identifier(c) for c in cuis.split("/")]
            joiner = "|" if kind == "comp" else "+"
            mention = Mention(cuis.replace("/", "|"), joiner.join(ids), "CompositeMention" if kind == "comp" else "")
            mention.parts = parts[0].replace("/", "|") if parts else ""
            self.used |= set(cuis.split("/"))
            self.say(text, mention)
        elif keys.startswith("mesh:"):
            self.say(text, Mention(ids=keys[5:]))
        elif keys == "CUI-less":
            self.say(text, Mention(cui="CUI-less"))
        else:
            for key in keys.split(","):
                tagged.setdefault(key, self.mention(key.split("#")[0]))
                self.used.add(key.split("#")[0])
            self.say(text, *(tagged[key] for key in keys.split(",")))
        self.plural = False

    def finish(self) -> Document:
        """Close the document and count its mentions if it is a training document."""
        doc = self.doc
        doc.text = doc.text.rstrip("\n") + "\n" if self.corpus == "semeval" else doc.text.rstrip()
        doc.mentions.sort(key=lambda m: (m.spans[0], m.spans[-1]))
        if self.split == "train":
            for m in doc.mentions:
                for cui in filter(None, m.cui.split("|")):
                    self.trained[cui] += 1
                    surface = " ".join(doc.text[s:e] for s, e in m.spans).lower()
                    self.trained_surfaces.add((cui, surface))
        return doc


# ---- notes ---------------------------------------------------------------------------------------------------------
def notes(concepts: dict[str, Concept]) -> dict[str, list[Document]]:
    """Clinical notes by split."""
    writer = Writer("semeval", concepts)
    writer.pools = {}
    result: dict[str, list[Document]] = {}
    number = 10001
    for split, count in SPLITS.items():
        writer.split = split
        result[split] = []
        for _ in range(count):
            writer.start()
            result[split].append(note(writer, f"{number}-{writer.rng.randint(100000, 999999)}-DEMO"))
            number += 1
    return result


def note(writer: Writer, name: str) -> Document:
    """One clinical note."""
    rng = writer.rng
    writer.doc.name = name
    writer.child = rng.random() < 0.15
    if writer.child:
        writer.age = rng.randint(4, 15)
    writer.doc.text += rng.choice(frames.TITLES).replace("{year}", f"{rng.randint(2001, 2014)}-{rng.randint(1, 12)}-{rng.randint(1, 28)}")
    writer.doc.text += "\n\n"
    style = rng.randrange(3)
    for section in rng.choice(frames.LAYOUTS):
        writer.doc.text += frames.HEADINGS[section][style] + (" " if style == 2 and section != "diagnoses" else "\n")
        if section == "pmh" and rng.random() < 0.45 and not writer.child:
            writer.doc.text = writer.doc.text.rstrip(" \n") + "\n"
            for i in range(rng.randint(2, 4)):
                writer.doc.text += f"{i + 1}. " if style else "- "
                writer.write(frames.PMH_LIST)
                writer.doc.text += "\n"
            writer.doc.text += "\n"
            continue
        pools = {
            "hpi": frames.HPI,
            "pmh": frames.PMH,
            "family": frames.FAMILY,
            "exam": frames.EXAM,
            "studies": frames.STUDIES,
            "social": frames.CHILD_SOCIAL if writer.child else frames.SOCIAL,
            "course": frames.COURSE,
            "plan": frames.PLAN,
            "diagnoses": frames.DIAGNOSES,
        }
        if section == "hpi":
            writer.write(frames.CHILD_OPENING if writer.child else frames.OPENING)
            writer.doc.text += " "
        for _ in range(rng.choice([1, 1, 2]) if section in {"hpi", "pmh", "family", "social", "plan"} else rng.choice([1, 2, 2])):
            if writer.write(pools[section]):
                writer.doc.text += "\n" if section == "diagnoses" else " "
        writer.doc.text = writer.doc.text.rstrip(" \n") + "\n\n"
    return writer.finish()


def pipe_lines(doc: Document) -> str:
    """The 19-field lines of a note."""
    lines = []
    for m in doc.mentions:
        a = m.attributes

        def value(name: str, default: str) -> list[str]:
            return list(a.get(name, (default, "null")))  # noqa: B023

        fields = [f"{doc.name}.text", ",".join(f"{s}-{e}" for s, e in m.spans), m.cui]
        fields += value("n", "no") + value("s", "patient") + value("u", "no") + value("cou", "unmarked")
        fields += value("sev", "unmarked")
        fields += ["true", a["c"][1]] if "c" in a else ["false", "null"]
        fields += ["true", a["g"][1]] if "g" in a else ["false", "null"]
        fields += value("b", "null")
        lines.append("|".join(fields) + "|\n")
    return "".join(lines)


# ---- abstracts -----------------------------------------------------------------------------------------------------
def by_name(concepts: dict[str, Concept]) -> dict[str, str]:
    """CUI of a concept by its first form."""
    return {c.full: cui for cui, c in concepts.items()}


def abstracts_ncbi(concepts: dict[str, Concept]) -> dict[str, list[Document]]:
    """Genetics abstracts by split."""
    names = by_name(concepts)
    table = {
        names[r["disease"]]: (
            [names[x] for x in r["features"].split(";")],
            [names[x] for x in r["relatives"].split(";")],
        )
        for r in read_tsv("features.tsv")
    }
    writer = Writer("ncbi", concepts)
    number = 90000001
    result: dict[str, list[Document]] = {}
    for split, count in SPLITS.items():
        writer.split = split
        result[split] = []
        topics: list[str] = []
        while len(result[split]) < count:
            writer.start()
            writer.pools = {}
            if not topics:
                topics = sorted(c for c in table if split != "train" or c not in writer.reserved)
                if split != "train":
                    fresh = [c for c in topics if not writer.trained[c]]
                    known = [c for c in topics if writer.trained[c]]
                    writer.rng.shuffle(fresh)
                    writer.rng.shuffle(known)
                    topics = [c for pair in zip(fresh[: len(known)], known, strict=False) for c in pair]
                else:
                    writer.rng.shuffle(topics)
            main = topics.pop()
            concept = concepts[main]
            writer.sex = "m" if "m" in concept.who else "f" if "f" in concept.who else writer.sex
            writer.named = {"main": main} | ({"gene": concept.gene} if concept.gene else {})
            writer.pools = {"feature": table[main][0], "relative": table[main][1]}
            writer.used = {main}
            writer.doc.name = str(number)
            genetic = bool(concept.gene)
            gene = genetic and writer.rng.random() < 0.7
            article(
                writer,
                frames.GENE_TITLES if gene else frames.PLAIN_TITLES,
                frames.GENE_OPENING if gene else frames.PLAIN_OPENING,
                gene,
            )
            result[split].append(writer.finish())
            number += 1
    return result


def article(writer: Writer, titles: list[str], openings: list[str], gene: bool) -> None:
    """Write a genetics title and abstract."""
    rng = writer.rng
    features = set(writer.pools["feature"]) | set(writer.pools["relative"])
    if not writer.write(titles):
        raise ValueError(f"no title for {writer.named}")
    writer.used -= features
    writer.doc.title_end = len(writer.doc.text)
    writer.doc.text += "\n"
    writer.write(openings)
    body = rng.randint(3, 5)
    for i in range(body):
        writer.doc.text += " "
        pool = frames.GENE_BODY if gene and i == 1 else frames.ABSTRACT_BODY
        if i == body - 1 and rng.random() < 0.35:
            pool = frames.COMPOSITE_BODY
        if not writer.write(pool, 8):
            writer.used -= features
            writer.doc.text = writer.doc.text.rstrip(" ")
    writer.doc.text = writer.doc.text.rstrip(" ") + " "
    writer.used -= features
    writer.write(frames.CONCLUSIONS)


def abstracts_bc5cdr(concepts: dict[str, Concept]) -> dict[str, list[Document]]:
    """Drug abstracts by split."""
    names = by_name(concepts)
    drugs = [
        (
            r["mesh"],
            r["drug"],
            [names[x] for x in r["adverse"].split(";")],
            [names[x] for x in filter(None, r["indications"].split(";"))],
        )
        for r in read_tsv("drugs.tsv")
    ]
    writer = Writer("bc5cdr", concepts)
    number = 90001001
    result: dict[str, list[Document]] = {}
    for split, count in SPLITS.items():
        writer.split = split
        result[split] = []
        bag: list[int] = []
        while len(result[split]) < count:
            writer.start()
            writer.pools = {}
            if not bag:
                bag = list(range(len(drugs)))
                writer.rng.shuffle(bag)
            mesh, drug, adverse, indications = drugs[bag.pop()]
            usable = [c for c in adverse if split != "train" or c not in writer.reserved]
            reasons = [c for c in indications if split != "train" or c not in writer.reserved]
            if not usable or (indications and not reasons):
                continue
            writer.used = set()
            reason = writer.draw(reasons) if reasons else None
            if reason:
                writer.used.add(reason)
                who = concepts[reason].who
                writer.sex = "m" if "m" in who else "f" if "f" in who else writer.sex
                writer.child = "child" in who
                writer.age = writer.rng.randint(3, 14) if writer.child else writer.age
                usable = [c for c in usable if writer.allowed(concepts[c])]
                writer.named["use"] = reason
                writer.age = 24 + writer.age // 5 if reason in FERTILE else writer.age
                writer.age = 48 + writer.age // 3 if reason in OLD else writer.age
            main = writer.draw(usable)
            if main is None:
                continue
            peers = [d for d in drugs if d[0] != mesh and reason in d[3]]
            strangers = [d for d in drugs if d[0] != mesh and not set(d[2]) & set(adverse)]
            other = writer.rng.choice(peers or strangers)
            if peers:
                writer.named["peer"] = f"{other[1]}|{other[0]}"
            writer.used |= {main}
            writer.named |= {"drug": f"{drug}|{mesh}", "other": f"{other[1]}|{other[0]}", "harm": main}
            writer.pools = {"alt": usable}
            writer.doc.name = str(number)
            drug_article(writer, reason is not None)
            doc = writer.finish()
            present = {m.ids for m in doc.mentions}
            ident = writer.identifier(main)
            if ident in present and ident != "-1":
                doc.relations.append((mesh, ident))
            result[split].append(doc)
            number += 1
    return result


def drug_article(writer: Writer, reason: bool) -> None:
    """Write a drug title and abstract."""
    rng = writer.rng
    writer.write(frames.DRUG_TITLES if reason else frames.NOIND_TITLES)
    writer.doc.title_end = len(writer.doc.text)
    writer.doc.text += "\n"
    writer.write(frames.DRUG_OPENING if reason else frames.NOIND_OPENING)
    body = rng.randint(3, 5)
    for i in range(body):
        writer.doc.text += " "
        pool = frames.DRUG_EXTRA if i == body - 1 and rng.random() < 0.35 else frames.DRUG_BODY
        if not writer.write(pool):
            writer.doc.text = writer.doc.text.rstrip(" ")
    writer.doc.text = writer.doc.text.rstrip(" ") + " "
    writer.write(frames.DRUG_CONCLUSIONS)


def pubtator(docs: list[Document], corpus: str) -> str:
    """PubTator text of a split; a line break in Document.text parts title and abstract."""
    blocks = []
    for doc in docs:
        title, abstract = doc.text.split("\n", 1)
        lines = [f"{doc.name}|t|{title}", f"{doc.name}|a|{abstract}"]
        for m in doc.mentions:
            (start, end), text = m.spans[0], doc.text[m.spans[0][0] : m.spans[0][1]]
            if corpus == "ncbi":
                kind = "CompositeMention" if m.kind == "CompositeMention" else "DiseaseClass" if m.cui in CLASSES else "SpecificDisease"
                kind = "Modifier" if kind == "SpecificDisease" and MODIFIED.match(doc.text[end:]) else kind
            else:
                kind = "Chemical" if m.kind == "Chemical" else "Disease"
            row = [doc.name, str(start), str(end), text, kind, m.ids]
            if corpus == "bc5cdr" and m.parts:
                row.append(m.parts)
            lines.append("\t".join(row))
        lines += ["\t".join([doc.name, "CID", chemical, disease]) for chemical, disease in doc.relations]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks) + "\n"


def corpora() -> dict[str, str]:
    """All corpus files, path below the demo folder to content."""
    concepts = load_concepts()
    files: dict[str, str] = {}
    for split, docs in notes(concepts).items():
        for doc in docs:
            files[f"semeval/{split}/{doc.name}.text"] = doc.text
            files[f"semeval/{split}/{doc.name}.pipe"] = pipe_lines(doc)
    for corpus, make in (("ncbi", abstracts_ncbi), ("bc5cdr", abstracts_bc5cdr)):
        for split, docs in make(concepts).items():
            files[f"{corpus}/{split}.txt"] = pubtator(docs, corpus)
    return files

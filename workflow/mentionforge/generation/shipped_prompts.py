"""Prompts that come with the program; entries of `prompts` in a configuration go before those of the same name.

In: nothing. Out: `SHIPPED`, by name. docs/prompts.md shows them. Knows nothing of generators.
"""

from __future__ import annotations

from collections.abc import Mapping

from mentionforge.generation.prompt_settings import Prompt

NAMES_AND_DEFINITION = (
    "{{ preferred }}{% if names[1:] %} (also called {{ names[1:4] | join(', ') }}){% endif %}."
    "{% if definition %} Definition: {{ definition | first_words(60) }}{% endif %}"
)
"""The preferred name with the three most widely used synonyms, and the definition, cut after 60 words: each further word costs time for every note."""

PUT_IN_TAGS = "by name, synonym or abbreviation, and put each mention in tags: {{ open }} {{ preferred }} {{ close }}"

INSTRUCTION = f"As a physician, write a short clinical note about a patient with {NAMES_AND_DEFINITION} Mention the condition at least once {PUT_IN_TAGS}"

PAPER = """\
As a physician, write a clinical note about a patient with {{ preferred }}.
{% if names[1:] %}
Other names of {{ preferred }}: {{ names[1:] | join('; ') }}.
{% endif %}
{% if definition %}
Definition: {{ definition }}
{% endif %}
Mention the condition in the note, explicitly or as a synonym or abbreviation, and put each mention in tags: {{ open }} {{ preferred }} {{ close }}
"""

FEW_SHOT = f"""\
Write a short clinical text about the last of these conditions, in the manner of the others. Mention the condition at least once {PUT_IN_TAGS}

{{% for example in examples %}}
Condition: {{{{ example.name }}}}
Text: {{{{ example.text }}}}

{{% endfor %}}
Condition: {NAMES_AND_DEFINITION}
"""

# The notes of other entity types: what a writer of such notes reports, and in what words.
PHENOTYPE = (
    f"As a clinical geneticist, write a short clinical report about a patient who shows {NAMES_AND_DEFINITION}"
    f" Describe the findings of the examination. Mention this finding at least once {PUT_IN_TAGS}"
)
CHEMICAL = (
    f"As a physician, write a short clinical note about a patient who was exposed to or treated with {NAMES_AND_DEFINITION}"
    f" Say how much was given or taken, and what followed. Mention the substance at least once {PUT_IN_TAGS}"
)
PROCEDURE = (
    f"As a surgeon or physician, write a short clinical note about a patient who underwent {NAMES_AND_DEFINITION}"
    f" Say why it was done and what it showed or achieved. Mention the procedure at least once {PUT_IN_TAGS}"
)

GERMAN = (
    "Schreiben Sie als Ärztin oder Arzt auf Deutsch einen kurzen klinischen Bericht über eine Person mit der Diagnose {{ preferred }}"
    "{% if names[1:] %} (andere Namen: {{ names[1:4] | join(', ') }}){% endif %}."
    "{% if definition %} Definition: {{ definition | first_words(60) }}{% endif %}"
    " Nennen Sie die Diagnose mindestens einmal mit ihrem Namen, einem Synonym oder einer Abkürzung, und setzen Sie jede Nennung in Tags:"
    " {{ open }} {{ preferred }} {{ close }}"
)
FRENCH = (
    "En tant que médecin, rédigez en français un bref compte rendu clinique concernant une personne qui présente le diagnostic suivant : {{ preferred }}"
    "{% if names[1:] %} (autres noms : {{ names[1:4] | join(', ') }}){% endif %}."
    "{% if definition %} Définition : {{ definition | first_words(60) }}{% endif %}"
    " Mentionnez ce diagnostic au moins une fois, par son nom, un synonyme ou une abréviation, et placez chaque mention entre balises :"
    " {{ open }} {{ preferred }} {{ close }}"
)
SPANISH = (
    "Como médico, redacte en español una breve nota clínica sobre un paciente con el siguiente diagnóstico: {{ preferred }}"
    "{% if names[1:] %} (otros nombres: {{ names[1:4] | join(', ') }}){% endif %}."
    "{% if definition %} Definición: {{ definition | first_words(60) }}{% endif %}"
    " Mencione el diagnóstico al menos una vez, por su nombre, un sinónimo o una abreviatura, y ponga cada mención entre etiquetas:"
    " {{ open }} {{ preferred }} {{ close }}"
)

SENTENCES = (
    "The patient has a history of {{ name }}.",
    "Past medical history is notable for {{ name }}.",
    "She was admitted for evaluation of {{ name }} and was seen by the consult service.",
    "On admission he was found to have {{ name }}, which was treated medically.",
    "Findings are most consistent with {{ name }}; follow-up is arranged.",
    "There is concern for {{ name }}, and further tests were ordered.",
    "Her brother and her mother have {{ name }} as well.",
    "Discharge diagnosis: {{ name }}.",
    "Assessment and plan: {{ name }}, stable on the present treatment.",
    "He denies any symptoms of {{ name }} since the last visit.",
    "Imaging done on the second day raised the question of {{ name }}.",
    "The family was told about {{ name }} and its usual course.",
    "We report a case of {{ name }} in an otherwise healthy adult.",
    "Little is known about the long-term outcome of {{ name }}.",
    "In this cohort, {{ name }} was diagnosed in one of ten participants.",
    "Mutations in two genes were found in families with {{ name }}.",
    "The drug was associated with {{ name }} in a small number of patients.",
    "Early recognition of {{ name }} may change its management.",
)
"""Sentences in the style of clinical notes and abstracts."""

CLINICAL = (
    "History of present illness: The patient is a 57-year-old with {{ name }}, admitted because of worsening symptoms. "
    "Vital signs are stable. Assessment and plan: {{ name }}; continue the present treatment and follow up in two weeks.",
)
"""The authors' control is one fixed clinical note with the name twice. The words are ours."""

SHIPPED: Mapping[str, Prompt] = {
    "instruction": Prompt(template=INSTRUCTION),
    "paper": Prompt(template=PAPER, style="plain", frame="### Instruction: {prompt}\n ### Example Doctor's Note: {note}"),
    "few_shot": Prompt(template=FEW_SHOT, stop=("\nCondition:",)),
    "phenotype": Prompt(template=PHENOTYPE),
    "chemical": Prompt(template=CHEMICAL),
    "procedure": Prompt(template=PROCEDURE),
    "german": Prompt(template=GERMAN, language="German"),
    "french": Prompt(template=FRENCH, language="French"),
    "spanish": Prompt(template=SPANISH, language="Spanish"),
    "sentences": Prompt(sentences=SENTENCES),
    "clinical": Prompt(sentences=CLINICAL),
}
"""The shipped entries. `instruction` is what language models are asked unless a generator names another; `sentences` is it for kind template."""

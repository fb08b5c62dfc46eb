"""Sentence frames of the demo corpora; the notation is explained in corpora.py.

In short: `{CG}` draws a concept of one of these kinds, `{=labs}` one of a group, `{-S}` a negated one, `[n:denies]`
marks a cue, `<text|C0013604>` is a fixed mention, `a(n)` becomes the right article, and `{was}` agrees with the mention
before it.
"""

from __future__ import annotations

# ---- clinical notes ------------------------------------------------------------------------------------------------
# Section name: headings, frames, fewest and most sentences.
OPENING = [
    "{He} is a {age}-year-old {man} with a history of {C} and {C} who presented with {S} for {n} days.",
    "{age}-year-old {man} with {C}, brought in by ambulance because of {S} and {S}.",
    "This {age}-year-old {man} was admitted from clinic with {=acute}.",
    "The patient is a {age}-year-old {man} referred for evaluation of {S}. {He} has known {CG}.",
    "{age} year old {man}, {C:def} on home treatment, now with {S}, {S} and {S} since {day}.",
    "Patient, {age}, transferred from an outside hospital with {=acute} for a higher level of care.",
    "{He} woke on {day} with {=hurts} and called {his} neighbor, who drove {him} to the emergency room.",
    "Seen today at the request of the surgical team for {=postop} after an elective procedure.",
    "The patient, a {age}-year-old retired teacher, fell at home and was found to have {=fall}.",
    "{age}-year-old {man} status post treatment for {N}, here with {S} and {F}.",
    "{age}-year-old {man} with known {G:def}, followed in our clinic for years, now admitted with {I}.",
    "{He} was well until {n} weeks ago, when {S} began; {S} followed a few days later.",
]
CHILD_OPENING = [
    "{He} is a {age}-year-old {boy} with {GX} who was brought in by {his} parents because of {S}.",
    "This {age}-year-old {boy} was admitted with {S} and {S} for {n} days.",
    "{age}-year-old {boy} with {X:def}, repaired in infancy, now with {S}.",
    "The school nurse sent this {age}-year-old {boy} in with {S}; {his} mother adds that {S} began overnight.",
    "{age}-year-old {boy} with known {G:def}, transferred for management of {I}.",
]
HPI = [
    "{He} [n:denies] {-S}, {-S} or {-S}.",
    "There had been [n:no] {-S} and [n:no] {-S} at any point.",
    "{He} reports [sev=severe:severe] {!=hurts} that {is} [cou=worsened:worse] at night.",
    "{His} {>=hurts} [cou=improved:improved] with rest and fluids.",
    "{He} took two tablets from a neighbor without relief.",
    "On arrival the patient was alert and talkative throughout.",
    "{He} was started on treatment for [u:presumed] {~=bacterial}.",
    "In the ambulance {he} received oxygen and a bolus of fluid.",
    "{His} daughter noticed {S} and [sev=slight:mild] {!S} over the last {n} days.",
    "Symptoms came on gradually and were accompanied by {S}.",
    "Of note, {he} was hospitalized in {month} for {AI}.",
    "{He} [n:never] had {-A} and has [n:no] prior {-P}.",
    "At the outside hospital the work-up showed {=labs} and [u:possible] {~A}.",
    "[c:If] there is more {?S}, {he} is to come back at once.",
    "The patient travelled last month and met a [s=other:coworker] with {^=contagious}.",
    "Oral intake has been poor, with [sev=moderate:moderate] {!=labs} on admission labs.",
]
PMH_LIST = [
    "{C}",
    "{C}",
    "{C:def}",
    "{CG}",
    "{M}",
    "{N}, in remission",
    "{C}, diet controlled",
    "{A} {n} years ago",
    "{I}, treated",
    "{X}, repaired",
    "{J} in {year}",
    "{C}, followed by {his} primary physician",
    "{MC}",
    "[n:No] {-C}",
]
PMH = [
    "Significant for {C}, {C} and {M}.",
    "{C:def}, for which {he} takes two tablets daily; also {C}.",
    "Notable for {CN} diagnosed in {year}, {C} and {J} in the remote past.",
    "{He} carries a diagnosis of {G:def}.",
    "The chart mentions [u:questionable] {~C}, never confirmed.",
    "[n:No] known {-C}, [n:no] {-C}, [n:no] {-M}.",
    "{CM}; otherwise {he} had been healthy.",
    "Past records list {C}, {N} and, in {month}, {A}.",
]
FAMILY = [
    "[s=family_member:Mother] with {^C}, [s=family_member:father] with {^N}.",
    "{His} [s=family_member:brother] has {^CG}.",
    "[n:No] family history of {-C} or {-N}.",
    "[s=family_member:Father] died of {^A} at the age of 71.",
    "[s=family_member:Grandmother] had {^C} late in life.",
    "The remaining relatives are alive and well.",
    "Two [s=family_member:uncles] with {^CN}.",
]
SOCIAL = [
    "Lives with {his} family in a second-floor apartment.",
    "Never smoked; one glass of wine on holidays.",
    "Retired carpenter, independent in all activities, walks two miles a day.",
    "Quit smoking fluently twelve years ago, as {he} puts it.",
    "Works in a flower shop and drives {him}self.",
    "The patient is fluent in two languages and keeps a garden.",
]
CHILD_SOCIAL = [
    "Lives with both parents and an older cousin.",
    "Attends school regularly and plays the flute.",
    "Immunizations are up to date; the household has one cat.",
]
EXAM = [
    "General: comfortable, in no distress, speaking in full sentences.",
    "Vital signs stable, oxygen saturation 97% on room air.",
    "Abdomen: soft, [n:without] {-=belly}, bowel sounds present.",
    "On examination {=signs} {was} noted.",
    "Skin: warm and dry, [n:no] {-=skin}, [n:no] {-=skin}.",
    "The <liver|C0019209#a> is two fingerbreadths below the costal margin and <enlarged|C0019209#a>.",
    "The <spleen|C0038002#a> was palpable and [sev=slight:mildly] <enlarged|C0038002#a>.",
    "<Lymph nodes|C0497156#a> in the neck were firm and <enlarged|C0497156#a>.",
    "The <muscles|C0151786#a> of both thighs were <weak|C0151786#a>, more so on the right.",
    "<Blood pressure|C0020649#a> on standing was <low|C0020649#a>.",
    "Extremities: [sev=slight:trace] <edema|C0013604> to mid-shin, pulses full.",
    "Neuro: cranial nerves intact, gait steady, [n:no] {-=neuro}.",
    "Heart sounds regular, [n:no] signs of {-=heart}.",
    "The <heart beat|C0039231#a> was regular but <rapid|C0039231#a>.",
    "There is <fullness of the left flank|CUI-less> on palpation.",
    "The wound edges were clean apart from a <small area of separation|CUI-less>.",
    "<Fullness behind the left ear|CUI-less> without redness.",
    "<Boggy scalp over the occiput|CUI-less>, otherwise normal head and neck examination.",
    "Alert and oriented, follows commands throughout.",
]
STUDIES = [
    "Chest film: [n:no evidence of] {-=chest} or {-=chest}.",
    "Chest x-ray showed {=onesided} on the [b=C0225756:left].",
    "CT of the chest was [u:suspicious for] {~=chestct}.",
    "CT: <pleural|C0032227#a> and <pericardial|C0031039> <effusions|C0032227#a,C0031039>, both small.",
    "Ultrasound of the abdomen demonstrated {=abdomen} and [u:probable] {~=abdomen}.",
    "Laboratory data were significant for {=labs} and {=labs}.",
    "Echocardiogram: ejection fraction 55%, [n:no] {-=heart}.",
    "Films confirmed {J}.",
    "Cultures grew nothing after five days.",
    "EKG with {=ekg}, unchanged from prior.",
    "MRI of the head was read as [u:consistent with] {~=brain}.",
    "Biopsy was [u:suggestive of] {~N}; final pathology is pending.",
    "Urinalysis with {=urine}, otherwise bland.",
    "White count 7.2, hematocrit 41, platelets 250.",
    "Repeat imaging [n:ruled out] {-=imaging}.",
    "The film shows a <hazy density at the right base|CUI-less>.",
]
COURSE = [
    "{AI}: {he} was treated with intravenous fluids and monitored; this [cou=improved:improved] over {n} days.",
    "{=labs}: corrected slowly, with labs twice daily.",
    "The hospital course was complicated by {=acute}, which [cou=resolved:resolved] before discharge.",
    "Cardiology was consulted for {=heart} and advised medical management.",
    "{He} completed a {n}-day course of antibiotics for {=bacterial}.",
    "For {C}, home medications were continued without change.",
    "{He} remained [n:free of] {-S} for two days.",
    "On day {n} {he} developed {=acute} and was moved to intensive care.",
    "The team discussed {N} with the patient and {his} family.",
    "Physical therapy saw the patient daily and cleared {him} for home.",
    "Treatment of {C} was held because of {=labs}.",
    "{S} [cou=decreased:subsided] by the second morning.",
    "Given [u:concern for] {~AI}, broad coverage was started on arrival.",
    "Neurology attributed the <movement disorder of the right hand|CUI-less> to medication.",
    "{He} tolerated a regular diet and walked in the hallway.",
    "{His} {M} was stable on the home regimen.",
]
PLAN = [
    "Follow up for {C} in {n} weeks.",
    "[c:Return for] {?S}, {?S} or {?S}.",
    "1. {C}: continue current dose. 2. {=labs}: recheck labs on {day}.",
    "# {CM} - stable. # {C} - referral sent.",
    "[g:Education about] {&C} was provided.",
    "Call the office [c:in case of] {?S}.",
    "Genetic counselling was offered because of {^G} in {his} [s=family_member:sister].",
    "Assessment: {AI} in a patient with {C}, now [cou=improved:improving].",
    "Impression: {=acute}, [u:likely] secondary to {~CI}.",
    "Outpatient screening for {=screen} was arranged.",
    "Take all tablets with food and drink plenty of fluid.",
]
DIAGNOSES = [
    "{A}.",
    "{I}.",
    "{C}.",
    "{=labs}, resolved.",
    "{C:def}.",
    "{CG}.",
    "{J}.",
    "{M}.",
    "[cou=worsened:Worsening] {>C}.",
    "{N}, stage II.",
]

HEADINGS = {
    "hpi": ["HISTORY OF PRESENT ILLNESS:", "History of Present Illness:", "HPI:"],
    "pmh": ["PAST MEDICAL HISTORY:", "Past Medical History:", "PMH:"],
    "family": ["FAMILY HISTORY:", "Family History:", "FAMILY HX:"],
    "social": ["SOCIAL HISTORY:", "Social History:", "SH:"],
    "exam": ["PHYSICAL EXAMINATION:", "Physical Exam:", "On exam:"],
    "studies": ["PERTINENT RESULTS:", "Studies:", "LABORATORY AND IMAGING:"],
    "course": ["HOSPITAL COURSE:", "Brief Hospital Course:", "Course:"],
    "plan": ["ASSESSMENT AND PLAN:", "Discharge Instructions:", "A/P:"],
    "diagnoses": ["DISCHARGE DIAGNOSES:", "Discharge Diagnosis:", "Final diagnoses:"],
}
TITLES = [
    "Discharge Summary",
    "Admission Date: [**{year}**]",
    "EMERGENCY DEPARTMENT NOTE",
    "Clinic visit",
    "Consultation",
    "TRANSFER NOTE",
    "Progress note",
]
LAYOUTS = [
    ("hpi", "pmh", "course"),
    ("hpi", "pmh", "family", "plan"),
    ("hpi", "social", "exam", "studies"),
    ("hpi", "exam", "course"),
    ("pmh", "hpi", "diagnoses"),
    ("hpi", "family", "exam", "plan"),
    ("hpi", "pmh", "studies"),
    ("hpi", "social", "course", "diagnoses"),
    ("hpi", "studies", "plan"),
]

# Disorders, by the first form of concepts.tsv, that fit one place in a note: `{=chest}`.
GROUPS = {
    "fall": "hip fracture;rib fractures;concussion;femoral neck fracture;traumatic brain injury",
    "contagious": "influenza;COVID-19;tuberculosis;hepatitis B;bacterial meningitis;pneumonia",
    "bacterial": "pneumonia;urinary tract infection;sepsis;cellulitis;osteomyelitis;bacterial endocarditis;bacterial meningitis;tuberculosis",
    "labs": "anemia;hyponatremia;hyperkalemia;hypokalemia;thrombocytopenia;neutropenia;metabolic acidosis;hypoglycemia;"
    "dehydration;hemolysis;pancytopenia;iron deficiency anemia;proteinuria;acute kidney injury",
    "belly": "hepatomegaly;splenomegaly;ascites;inguinal hernia",
    "signs": "jaundice;lymphadenopathy;scoliosis;keloid;tachycardia;hypotension;bradycardia;hepatomegaly;tremor;edema;"
    "ataxia;hallux valgus;hearing loss;muscle weakness;aphasia",
    "skin": "jaundice;cellulitis;edema;keloid;psoriasis;herpes zoster;atopic dermatitis;pruritus",
    "neuro": "ataxia;tremor;aphasia;muscle weakness;vertigo",
    "heart": "aortic stenosis;mitral regurgitation;mitral stenosis;pericardial effusion;congestive heart failure;"
    "pulmonary hypertension;atrial septal defect;hypertrophic cardiomyopathy;dilated "
    "cardiomyopathy;ventricular septal defect",
    "chest": "pneumonia;pneumothorax;pleural effusion;cardiomegaly;atelectasis;rib fractures;tuberculosis",
    "onesided": "pneumothorax;pleural effusion;atelectasis;rib fractures;pneumonia",
    "chestct": "pulmonary embolism;lung cancer;idiopathic pulmonary fibrosis;sarcoidosis;aortic aneurysm;tuberculosis;acute respiratory distress syndrome",
    "abdomen": "cholelithiasis;ascites;hepatomegaly;splenomegaly;nephrolithiasis;cirrhosis of the liver;"
    "acute pancreatitis;"
    "acute cholecystitis;appendicitis;hepatocellular carcinoma;polycystic kidney disease;aortic "
    "aneurysm;chronic pancreatitis",
    "ekg": "atrial fibrillation;bradycardia;tachycardia;ventricular tachycardia",
    "brain": "stroke;glioblastoma;meningioma;multiple sclerosis;subarachnoid hemorrhage;hydrocephalus",
    "urine": "hematuria;proteinuria",
    "imaging": "pulmonary embolism;deep vein thrombosis;stroke;appendicitis;subarachnoid hemorrhage;acute cholecystitis",
    "postop": "atelectasis;delirium;atrial fibrillation;deep vein thrombosis;anemia;constipation;urinary tract infection",
    "acute": "myocardial infarction;stroke;pulmonary embolism;deep vein thrombosis;"
    "acute kidney injury;acute pancreatitis;"
    "gastrointestinal hemorrhage;sepsis;delirium;respiratory failure;acute cholecystitis;hepatic encephalopathy;"
    "subarachnoid hemorrhage;transient ischemic attack;Guillain-Barré syndrome;hepatic failure;appendicitis;pneumonia;"
    "acute respiratory distress syndrome;rhabdomyolysis;shock;pneumothorax;congestive heart "
    "failure;ventricular tachycardia",
    "screen": "osteoporosis;colorectal cancer;breast cancer;prostate cancer;lung cancer;"
    "type 2 diabetes mellitus;glaucoma;"
    "aortic aneurysm;hepatitis C;HIV infection;diabetic retinopathy;celiac disease;hearing loss",
    "hurts": "headache;abdominal pain;back pain;chest pain;arthralgia;myalgia;cough;nausea;dyspnea;pruritus;vertigo",
}

# ---- genetics abstracts --------------------------------------------------------------------------------------------
# {main} the article's disease, {feature} one of its features, {relative} a related disease, {gene} its gene.
GENE_TITLES = [
    "Novel {gene} variants in families with {main}.",
    "A founder mutation of {gene} causes {main} in an island population.",
    "{main}: the spectrum of {gene} mutations in {n} families.",
    "Large deletions of the {gene} gene in patients with {main}",
    "Does the {gene} genotype predict {feature} in {main}?",
    "Functional study of {gene} missense changes found in {main}.",
    "Carrier testing for {main} by sequencing of {gene}.",
    "A mouse without {gene} as a model of {main}.",
]
PLAIN_TITLES = [
    "{feature:Cap} as the first sign of {main}: a family study.",
    "Segregation analysis of {main} in {n} pedigrees.",
    "{main} and {relative}: two diseases or one?",
    "Long-term outcome of {main} in a regional registry.",
    "Twins discordant for {main}.",
    "Frequency of {feature} among patients with {main}.",
    "A linkage search for susceptibility loci in {main}",
    "Age at onset of {main} differs between parents and offspring.",
]
GENE_OPENING = [
    "{main:def} is caused by mutations in the {gene} gene.",
    "Mutations of {gene} underlie {main:def}, but their range in our region is unknown.",
    "{main:def} is an inherited disorder that is often recognized late.",
    "The {gene} gene is altered in most patients with {main:def}.",
    "Since the cloning of {gene}, molecular testing for {main:def} has become routine.",
]
PLAIN_OPENING = [
    "{main:def} clusters in families, yet few genes have been identified.",
    "The natural history of {main:def} is only partly known.",
    "We reviewed the records of {n} unrelated patients with {main:def}.",
    "Susceptibility to {main:def} is thought to be polygenic.",
    "How often {main:def} recurs among siblings has been debated for decades.",
]
ABSTRACT_BODY = [
    "We describe a three-generation family in which {main} was accompanied by {feature}.",
    "All coding exons were sequenced in {n} affected individuals and {n} controls.",
    "The proband came to attention because of {feature} and {feature}.",
    "Neither {feature} nor {feature} was related to the type of mutation.",
    "In contrast to {relative}, no effect of sex was seen.",
    "Two siblings had been misdiagnosed with {relative} before the molecular result.",
    "The clinical picture ranged from isolated {feature} to severe {main}.",
    "{feature:Cap} developed in {n} of {n}0 {main} patients during follow-up.",
    "Linkage to the {relative} locus was excluded.",
    "Fibroblasts from {main} patients grew slowly and responded poorly to stress.",
    "The mean age at diagnosis of {main} was {n} years.",
    "Expression of the mutant protein was reduced throughout development.",
    "Haplotypes flanking the locus point to a single ancestor who lived about {n} generations ago.",
    "Heterozygous carriers were healthy apart from {feature} late in life.",
    "One {main} family carried a large deletion that standard tests had missed.",
    "No instance of {relative} was observed among the relatives.",
    "Penetrance of {main} was incomplete and increased with age.",
    "Screening for {feature} is therefore advised in every {main} patient.",
    "A similar change has been reported in {relative}.",
    "Blood samples were collected after informed consent, and DNA was extracted from leukocytes.",
    "Compared with controls, patients were more likely to have {feature} (odds ratio 2.{n}).",
    "{main} patients with {feature} had a worse outcome than those without.",
    "Prenatal diagnosis of {main} was requested by {n} couples.",
    "Enzyme or protein assays were normal in unaffected relatives.",
    "The variant was absent from {n}00 control chromosomes.",
    "Differential diagnosis includes {relative}, which lacks {feature}.",
    "Mutation-negative cases were tested for {relative} as well.",
    "Parents should be told that {feature} may precede other signs by years.",
    "The association with {feature} did not reach significance.",
    "Modifier genes may explain why {feature} {is} seen in only some {main} families.",
    "A father and his two daughters were followed for {n} years without {feature}.",
    "Among obligate carriers, {n} had {feature} and one had {relative}.",
]
GENE_BODY = [
    "A missense change in {gene} segregated with {main} in every branch.",
    "Truncating {gene} mutations were associated with {feature}.",
    "Loss of {gene} in cultured cells reproduced the cellular defect of {main}.",
    "The {gene} transcript was nearly absent in {main} patients.",
    "No {gene} mutation was found in {n} families with {relative}.",
    "Of {n} {gene} alleles, two have also been seen in {relative}.",
]
COMPOSITE_BODY = [
    "Relatives with <breast and ovarian cancer|comp:C0678222/C1140680:breast cancer/ovarian cancer> were interviewed separately.",
    "Registries of <Duchenne and Becker muscular dystrophy|comp:C0013264/C0917713:Duchenne muscular dystrophy/Becker muscular dystrophy> were pooled.",
    "Cases with <hemophilia A or B|comp:C0019069/C0008533:hemophilia A/hemophilia B> served as a comparison group.",
    "Control families with <cleft lip and palate|join:C4321245/C2981150> were recruited at two centers.",
    "Records of <stomach and colorectal cancers|comp:C0024623/C0009402:stomach cancers/colorectal cancers> were checked as well.",
    "<Type 1 and type 2 diabetes|comp:C0011854/C0011860:Type 1 diabetes/type 2 diabetes> were recorded by questionnaire.",
    "<Atrial and ventricular septal defects|comp:C0018817/C0018818:Atrial septal defects/ventricular septal defects> were sought by ultrasound.",
    "One distant cousin had <hydrops fetalis|mesh:D015160>.",
    "A great-uncle was said to have died of <kuru|mesh:D007729>.",
    "Childhood <rickets|mesh:D012279> was reported by two grandparents.",
    "<Nystagmus|mesh:D009759> was noted in one infant.",
]
CONCLUSIONS = [
    "We conclude that testing should be offered to all families.",
    "These findings broaden the phenotype of {main}.",
    "Our data support early surveillance for {feature} in {main}.",
    "The results argue against a common origin of {main} and {relative}.",
    "Larger cohorts are needed before {main} can be predicted from genotype alone.",
    "Thus {main} is more frequent in this region than had been thought.",
    "Genetic counselling for {main} should take these figures into account.",
]

# ---- drug abstracts ------------------------------------------------------------------------------------------------
# {drug} the drug, {harm} a disorder it caused, {use} what it was given for, {other} an unrelated drug.
DRUG_TITLES = [
    "{harm:Cap} during {drug} therapy: a case report.",
    "{drug:Cap}-induced {harm} in a patient with {use}.",
    "{harm:Cap} associated with {drug}: a report of {n} cases and review.",
    "Risk of {harm} in patients taking {drug}.",
    "Can {drug} cause {harm}?",
    "Late-onset {harm} after {drug}.",
    "{drug:Cap} and {harm}: a cohort study",
    "Prevention of {drug}-related {harm} in a randomized trial.",
]
NOIND_TITLES = [
    "{drug:Cap}-induced {harm} in young adults.",
    "{harm:Cap} after exposure to {drug}.",
    "{harm:Cap} and {drug} use: a case-control study.",
]
DRUG_OPENING = [
    "{drug:Cap} is widely prescribed for {use:def}.",
    "A {age}-year-old {man} with {use:def} developed {harm} after {n} weeks of {drug}.",
    "We report a {age}-year-old {man} who was given {drug} for {use:def} and presented with {harm}.",
    "OBJECTIVE: To determine how often {drug} leads to {harm:def} in everyday practice.",
    "BACKGROUND: Treatment of {use:def} with {drug} may be limited by {harm}.",
    "Although {drug} is effective in {use:def}, its safety over years is uncertain.",
]
NOIND_OPENING = [
    "Exposure to {drug} has been linked to {harm:def}.",
    "A {age}-year-old {man} was admitted with {harm:def} after heavy use of {drug}.",
    "OBJECTIVE: To examine whether {drug} contributes to {harm:def}.",
]
DRUG_BODY = [
    "The patient had no history of {PF} and took no other medication.",
    "{harm:Cap} resolved within {n} days after {drug} was withdrawn.",
    "Rechallenge with {drug} led to the same reaction.",
    "Of {n} patients treated with {drug}, two developed {harm} and one had {alt}.",
    "Laboratory tests, including liver enzymes and fluid balance, were otherwise unremarkable.",
    "{drug:Cap} was replaced by {peer}, and {use} remained well controlled.",
    "METHODS: Records of {n}0 patients with {use} were reviewed throughout one year.",
    "RESULTS: {harm:Cap} occurred in {n}% of the {drug} group and in none of those given {peer}.",
    "Co-administration of {other} did not alter the incidence of {harm}.",
    "A dose reduction of {drug} relieved {harm} in most subjects.",
    "Animals pretreated with {other} were protected against {drug}-induced {harm}.",
    "There was no sign of {PF} or {S} at any visit.",
    "The time course suggested that {drug} was the cause of {harm}.",
    "Symptoms began with {S}, and {harm} followed within hours.",
    "In patients with {C}, the risk was doubled.",
    "Other causes of {harm}, such as {C}, were excluded.",
    "Serum concentrations of {drug} were within the therapeutic range.",
    "Patients with preexisting {C} or {P} were not enrolled.",
    "{other:Cap} was given for {harm}, without benefit.",
    "The mechanism by which {drug} produces {harm} is unknown.",
    "Elderly patients with {use} appeared to be particularly sensitive.",
    "After {n} months the {man} was free of {harm}, but {use} had relapsed.",
    "Both groups reported {S} with equal frequency.",
    "Concomitant {C} was present in {n} of the participants.",
    "Renal function, blood counts and electrolytes were checked weekly.",
    "The Naranjo scale indicated a probable relation between {drug} and {harm}.",
]
DRUG_EXTRA = [
    "Tests excluded <hepatic and respiratory failure|comp:C0085605/C1145670:hepatic failure/respiratory failure>.",
    "Baseline <pleural and pericardial effusions|comp:C0032227/C0031039:pleural effusions/pericardial effusions> had disappeared at follow-up.",
    "<Acute and chronic pancreatitis|comp:C0001339/C0149521:Acute pancreatitis/chronic pancreatitis> were exclusion criteria.",
    "Carriers of <hepatitis B or C|comp:C0019163/C0019196:hepatitis B/hepatitis C> were not included.",
    "<Ventricular and atrial septal defects|comp:C0018818/C0018817:Ventricular septal defects/atrial septal defects> were absent on ultrasound.",
    "One subject reported <metallic discomfort of the tongue|mesh:-1>.",
    "A second subject noticed <dullness of mood after infusion|mesh:-1>.",
    "<Alopecia|mesh:D000505> was reported by three participants.",
    "<Hiccups|mesh:D006606> were frequent but harmless.",
    "<Hyperprolactinemia|mesh:D006966> was not looked for.",
    "Two men complained of <priapism|mesh:D011317>.",
    "<Breast and ovarian cancers|comp:C0678222/C1140680:Breast cancers/ovarian cancers> were equally common in both arms.",
]
DRUG_CONCLUSIONS = [
    "Clinicians should be aware of {harm} when prescribing {drug}.",
    "CONCLUSION: {drug:Cap} can cause {harm}, and monitoring is advised.",
    "We conclude that {drug} is safe in most patients.",
    "Early withdrawal of {drug} is essential once {harm} {is} suspected.",
    "This is, to our knowledge, the first description of {harm} with {drug} in this setting.",
    "Physicians who treat {use} should weigh this risk.",
]

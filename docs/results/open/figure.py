"""Draws docs/img/result.svg: accuracy on unseen concepts by index and generator, from normalization.csv beside this file.

In: normalization.csv. Out: an SVG. Knows nothing of documents: intervals are Wilson's, with mentions taken as independent.
"""

from pathlib import Path

import altair as alt
import pandas as pd
import vl_convert
from scipy.stats import binomtest

HERE = Path(__file__).parent
MENTIONS = {"ncbi_disease": ("NCBI Disease", 155), "bc5cdr": ("BC5CDR", 517)}
TEXT = {
    "none": "no synthetic text",
    "smollm2": "notes of the language model",
    "names": "bare names of the same concepts",
    "names_all": "one name of every concept",
}
INDEX = {"train": "index: training mentions (the paper's)", "train+kb_coded": "index: training mentions and dictionary"}

frame = pd.read_csv(HERE / "normalization.csv")
frame = frame[(frame["linker"] == "mention_abbr") & frame["strategy"].isin(["none", "supplemental"])]
frame = frame[frame["index"].isin(list(INDEX)) & frame["generator"].isin(list(TEXT))]
rows = []
for row in frame.to_dict("records"):
    corpus, n = MENTIONS[row["corpus"]]
    right = round(row["test.unseen_concept.acc@1"] * n)
    low, high = binomtest(right, n).proportion_ci(method="wilson")
    values = {"acc": 100 * right / n, "low": 100 * low, "high": 100 * high}
    rows.append({"corpus": corpus, "text": TEXT[row["generator"]], "index": INDEX[row["index"]], **values})

base = alt.Chart(pd.DataFrame(rows))
y = alt.Y("text:N", title=None, sort=list(TEXT.values()), axis=alt.Axis(labelLimit=220))
shift = alt.YOffset("corpus:N", sort=["NCBI Disease", "BC5CDR"])
colour = alt.Color("corpus:N", title=None, sort=["NCBI Disease", "BC5CDR"], scale=alt.Scale(range=["#2f6690", "#b9770e"]))
TITLE = "acc@1 in per cent"
x = alt.X("acc:Q", title=TITLE, scale=alt.Scale(domain=[0, 100]))
bars = base.mark_rule(strokeWidth=2).encode(y=y, yOffset=shift, x=alt.X("low:Q", title=TITLE), x2="high:Q", color=colour)
points = base.mark_point(filled=True, size=60, opacity=1).encode(y=y, yOffset=shift, x=x, color=colour)
chart = alt.layer(bars, points).properties(width=300, height={"step": 13}).facet(column=alt.Column("index:N", title=None, sort=list(INDEX.values())))
chart = chart.configure(background="white", font="Helvetica Neue, Helvetica, Arial, sans-serif", padding={"left": 40, "right": 24, "top": 10, "bottom": 10})
chart = chart.configure_view(stroke=None).configure_legend(orient="bottom")
(HERE.parents[1] / "img/result.svg").write_text(vl_convert.vegalite_to_svg(chart.to_dict()), encoding="utf-8")

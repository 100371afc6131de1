"""Sample pictures that draw themselves: three materials, five defects, laid out for all four tasks.

``python -m dao.samples --out data/samples`` writes the set; `dao.samples.draw.draw` draws one picture.
"""

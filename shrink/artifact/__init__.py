"""A smaller model, its plan and its report as a folder that loads without the original class.

In: the model, the plan and the finished report texts. Out: a folder (`save.save`), and from it the
module (`load.load`), the plan and the report. Begin with `save`; contract: `docs/ARTIFACT.md`.
"""

"""What runs inside a session on Kaggle, on Colab or in a Jupyter of one's own. The standard library alone: it runs before anything is installed.

    from engine.kaggle.session.cells import Made, NotebookSession

Nothing is imported here: ``run`` and ``doctor`` need :mod:`engine.kaggle.session.platform` alone, at no cost. Codes: G150 to G199.
"""

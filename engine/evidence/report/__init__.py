"""Evidence -> one HTML page that a stranger reads without a network, without a script and without the engine.

    page = report_page(read_bundle(path), verify(path))
    files["report.html"] = packaged_page(files)

A page is a function of the files, the first one also of what the checks say of them: equal evidence gives equal bytes. What
cannot be read in the files of a stranger is named on the page with its reason; nothing is left out silently.
"""

from engine.evidence.report.items import ReportItem, read_items
from engine.evidence.report.page import MARKER, packaged_page, report_page

__all__ = ["MARKER", "ReportItem", "packaged_page", "read_items", "report_page"]

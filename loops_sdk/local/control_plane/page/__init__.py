"""The local page: what runs on this deployment, seen with a browser, and the JSON that the page lives on."""

from loops_sdk.local.control_plane.page.files import KEYLESS
from loops_sdk.local.control_plane.page.routes import PageRoutes

__all__ = ["KEYLESS", "PageRoutes"]

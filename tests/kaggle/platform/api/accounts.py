"""security.OAuthService and users.AccountService: what a token is worth, and a new one for an old one."""

from __future__ import annotations

from tests.kaggle.platform.api.calls import Call, Handlers
from tests.kaggle.platform.web.messages import Reply, json_reply

USUAL_SECONDS = 12 * 3600.0


def introspect_token(call: Call) -> Reply:
    """Whose token it is. 401 for one that nobody was given: the client asks with the token itself."""
    call.identity.required()
    return json_reply(call.world.accounts.introspect(call.body.get("token", "")))


def generate_access_token(call: Call) -> Reply:
    """A new access token for a refresh token."""
    asked = str(call.body.get("expirationDuration", "")).removesuffix("s")
    return json_reply(call.world.accounts.refreshed(call.body.get("refreshToken", ""), float(asked or USUAL_SECONDS)))


HANDLERS: Handlers = {"IntrospectToken": introspect_token, "GenerateAccessToken": generate_access_token}

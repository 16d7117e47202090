"""Login: who may see the control plane, by the admin token or by a cookie that a browser was given for it."""

import hmac
from string import Template
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from farthing.errors import ConfigError
from farthing.ports import Clock

PATH = "/login"
COOKIE = "farthing_admin"
SESSION_SECONDS = 12 * 3600
LONGEST_FORM = 4096
SHORTEST_TOKEN = 16
"""Characters of an admin token; a shorter one could be guessed."""
SECOND = 10**9

FORM_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
FORM = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Farthing: log in</title>
<link rel="icon" href="/assets/coin.svg" type="image/svg+xml">
<link rel="stylesheet" href="/assets/farthing.css">
</head>
<body>
<main id="content">
<section class="panel empty">
<h2>Log in to Farthing</h2>
<form method="post" action="/login">
<p><label for="token">Admin token</label> <input id="token" name="token" type="password" required autofocus></p>
<p><button type="submit">Log in</button></p>
</form>
<p>$remark</p>
</section>
</main>
</body>
</html>
""")
USUAL = "The token is what <code>server.admin_token</code> refers to in the gateway's configuration."
WRONG = "That is not the token that <code>server.admin_token</code> refers to."


class Login:
    """Knows the admin token, and the sessions that were begun with it: nothing is kept, each proves itself.

    A session is the instant it ends (Unix seconds) and an HMAC of that under the token, so that it tells nothing of the
    token, holds in every process that has the token, and ends with it.
    """

    def __init__(self, token: str, clock: Clock) -> None:
        """Raises ConfigError when the token could be guessed."""
        if len(token) < SHORTEST_TOKEN:
            raise ConfigError(
                f"server.admin_token has {len(token)} characters; it needs {SHORTEST_TOKEN} or more",
                hint="Make one with `openssl rand -hex 32`.",
            )
        self._token = token.encode()
        self._clock = clock

    def admits(self, request: Request) -> bool:
        """Whether a request carries the token, or the cookie of a session that has not ended."""
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(credential):
            return True
        ends, _, proof = request.cookies.get(COOKIE, "").partition(".")
        if not hmac.compare_digest(self._proof(ends), proof.encode()):
            return False
        return int(ends) * SECOND > self._clock.now()  # only this class makes what was proved

    async def answer(self, request: Request) -> Response:
        """The form, or what it was sent to do: begin a session."""
        if request.method in ("GET", "HEAD"):
            return self.form(200)
        if request.method != "POST":
            return Response(status_code=405, headers={"allow": "GET, HEAD, POST"})
        body = await request.body()
        if len(body) > LONGEST_FORM or not self._is_token(_token_in(body)):
            return self.form(401, WRONG)
        ends = str(self._clock.now() // SECOND + SESSION_SECONDS)
        answer = RedirectResponse("/", 303)
        session = f"{ends}.{self._proof(ends).decode()}"
        answer.set_cookie(COOKIE, session, max_age=SESSION_SECONDS, httponly=True, samesite="strict")
        return answer

    def form(self, status: int, remark: str = USUAL) -> Response:
        """The page that asks for the token."""
        return HTMLResponse(FORM.substitute(remark=remark), status, {"content-security-policy": FORM_POLICY})

    def _is_token(self, credential: str) -> bool:
        return hmac.compare_digest(self._token, credential.strip().encode())

    def _proof(self, ends: str) -> bytes:
        return hmac.digest(self._token, b"farthing session until " + ends.encode(), "sha256").hex().encode()


def _token_in(form: bytes) -> str:
    return parse_qs(form.decode("latin-1")).get("token", [""])[0]

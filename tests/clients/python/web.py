"""FastAPI with typed bodies, and the libraries that verify signatures."""

import datetime
from typing import Any

from common import form, said, secret, version, wire


def signatures(path):
    """One verifies and then parses, the other only verifies, as their pages have it."""
    import standardwebhooks
    import svix.webhooks

    for package, hook in [("standardwebhooks", standardwebhooks.Webhook(secret(path))),
                          ("svix", svix.webhooks.Webhook(secret(path)))]:
        client = f"python {version(package)}"
        for n, line, body in wire(path):
            if line["sink"] != "http":
                continue
            try:
                parsed = hook.verify(body, dict(line["headers"]))
                said(client, n, **({"verified": True} if parsed is None else {"body": {"json": parsed}}))
            except Exception as error:
                said(client, n, error=f"{type(error).__name__}: {error}"[:200])


async def fastapi(path):
    """Every JSON of HTTP; a gap goes to a handler that has its model."""
    import httpx

    client = version("fastapi")
    app, taken = application()
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        for n, line, body in wire(path):
            headers = {k: v for k, v in line["headers"] if k not in ("host", "content-length")}
            if line["sink"] != "http" or not headers.get("content-type", "").endswith("json"):
                continue
            taken.clear()
            is_gap = headers.get("ce-type") == "pgherald.gap"
            answer = await http.post("/gap" if is_gap else "/json", content=body, headers=headers)
            if answer.status_code == 200:
                said(client, n, body=taken[0])
            else:
                said(client, n, error=f"answers {answer.status_code}")


def application():
    import fastapi
    import pydantic

    class Gap(pydantic.BaseModel):
        channels: list[str]
        since: datetime.datetime | None = pydantic.Field(alias="from")
        to: datetime.datetime
        reason: str

    app, taken = fastapi.FastAPI(), []

    @app.post("/json")
    async def take(body: dict[str, Any] | list[Any] | str):
        taken.append(form(body))

    @app.post("/gap")
    async def take_gap(gap: Gap):
        text = lambda time: time and time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        taken.append({"json": {"channels": gap.channels, "from": text(gap.since), "to": text(gap.to), "reason": gap.reason}})

    return app, taken

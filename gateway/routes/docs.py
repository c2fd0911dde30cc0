"""Documentation: OpenAPI at `/docs`, AsyncAPI at `/asyncapi`. Nothing is loaded from another server."""

from importlib.resources import files
from pathlib import Path

import orjson
from fastapi import APIRouter, Response
from starlette.responses import FileResponse

from gateway.http import contract_page
from schemas import asyncapi

# Swagger UI uses inline styles, and images in its style sheet.
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DOCS = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>LLM Orchestra</title>
<link rel="stylesheet" href="/docs/swagger-ui.css"><link rel="icon" href="data:,"></head>
<body>
<noscript><p>This page needs JavaScript. The document itself is at <a href="/openapi.json">/openapi.json</a>;
the Kafka topics are at <a href="/asyncapi">/asyncapi</a>, without JavaScript.</p></noscript>
<div id="docs"></div>
<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#docs", deepLinking: true, layout: "BaseLayout", validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
})
"""
_JAVASCRIPT = "text/javascript"


def build_router() -> APIRouter:
    """The routes for the app. The pages are rendered once, here."""
    router = APIRouter(include_in_schema=False)
    document = asyncapi.document()
    as_json, as_page = orjson.dumps(document), contract_page.render(document)
    # Serve the package's copy of Swagger UI, so that the page works on a closed network; its own routes are not used.
    assets = Path(str(files("fastapi_offline") / "static"))

    @router.get("/docs")
    async def docs() -> Response:
        return Response(_DOCS, headers=_headers(_DOCS_POLICY), media_type="text/html")

    @router.get("/docs/start.js")
    async def start() -> Response:
        return Response(_START, headers=_headers(_DOCS_POLICY), media_type=_JAVASCRIPT)

    @router.get("/docs/swagger-ui-bundle.js")
    async def script() -> Response:
        return FileResponse(assets / "swagger-ui-bundle.js", headers=_headers(_DOCS_POLICY), media_type=_JAVASCRIPT)

    @router.get("/docs/swagger-ui.css")
    async def style() -> Response:
        return FileResponse(assets / "swagger-ui.css", headers=_headers(_DOCS_POLICY), media_type="text/css")

    @router.get("/asyncapi")
    async def contract() -> Response:
        return Response(as_page, headers=_headers(contract_page.CONTENT_SECURITY_POLICY), media_type="text/html")

    @router.get("/asyncapi.json")
    async def contract_document() -> Response:
        return Response(as_json, media_type="application/json")

    return router


def _headers(policy: str) -> dict[str, str]:
    return {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}

"""`/livez`: the process runs. `/readyz`: it can do its work now."""

from fastapi import APIRouter, Request
from sqlalchemy import select
from sqlmodel import col
from starlette.responses import JSONResponse

from api.db.system import system_session
from api.edge.roots import roots
from api.tables import JobLease

router = APIRouter(tags=["Health"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """Always 200 while the process answers; looks at nothing else."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """200 when the database answers, else 503."""
    services = roots(request)
    try:
        async with system_session(services.database, "doctor") as session:
            await session.execute(select(col(JobLease.name)).limit(1))
    except Exception:  # whatever a driver raises, the answer is the same
        return JSONResponse({"status": "unavailable", "database": "down"}, 503, {"Retry-After": "2"})
    return JSONResponse({"status": "ok", "database": "up"})

-- Sends one request again and again, and prints what happened as one line of JSON.
-- Environment: BODY, a file with the body (none: GET); CONTENT_TYPE; ACCEPTS, the coding that answers
-- may have.
local path = os.getenv("BODY")
if path then
    local file = assert(io.open(path, "rb"))
    wrk.method = "POST"
    wrk.body = file:read("*a")
    wrk.headers["content-type"] = os.getenv("CONTENT_TYPE") or "application/json"
    file:close()
end

if os.getenv("ACCEPTS") then wrk.headers["accept-encoding"] = os.getenv("ACCEPTS") end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        'RESULT {"requests": %d, "seconds": %.6f, "bytes": %d, "connect": %d, "read": %d, '
            .. '"write": %d, "status": %d, "timeout": %d, "p50": %.9f, "p99": %.9f}\n',
        summary.requests, summary.duration / 1e6, summary.bytes, errors.connect, errors.read,
        errors.write, errors.status, errors.timeout, latency:percentile(50) / 1e6,
        latency:percentile(99) / 1e6))
end

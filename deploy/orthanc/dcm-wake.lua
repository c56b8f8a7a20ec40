-- Rings DCM Processor's ingest when a series, study or patient has become stable, so that it need not wait for its next look
-- at Orthanc's change log. Only a doorbell: a ring that is lost costs a second, never an image.
--
-- In orthanc.json:  "LuaScripts": ["/path/to/dcm-wake.lua"]     (behind other scripts that define OnStable... functions)
-- Where and as whom, from Orthanc's environment or from a section of orthanc.json:
--   INGEST_URL      "DcmProcessor": {"IngestUrl": ...}      ingest's endpoint, http://ingest:5000; without it nothing is rung
--   INGEST_TOKEN                    {"IngestToken": ...}    ingest's INGEST_TOKEN
--   INGEST_SERVER                   {"IngestServer": ...}   this Orthanc's name in ingest's ORTHANC_URLS, when there are several
--
-- Orthanc runs one Lua function at a time, and asks Lua about each image that it receives. So a ring may take 2 seconds at most
-- (Orthanc 1.11.1 and later; before, "HttpTimeout" of orthanc.json is the limit), and after one that failed the bell stays
-- silent for a while.

local configuration = GetOrthancConfiguration() or {}
local section = configuration['DcmProcessor']
if type(section) ~= 'table' then section = {} end

local function setting(variable, member)
    local value = os.getenv(variable)
    if value == nil or value == '' then value = section[member] end
    if type(value) ~= 'string' or value == '' then return nil end
    return value
end

local url = setting('INGEST_URL', 'IngestUrl')
local token = setting('INGEST_TOKEN', 'IngestToken')
local server = setting('INGEST_SERVER', 'IngestServer')

local headers = { ['Content-Type'] = 'application/json' }
if token ~= nil then headers['X-DCM-Token'] = token end
local body = '{}'
if server ~= nil then body = DumpJson({ server = server }, true) end

local shortest, longest = 10, 600
local pause = 0
local silentUntil = 0

local function post()
    -- The limit belongs to all scripts of this Orthanc: it is given back.
    if SetHttpTimeout ~= nil then SetHttpTimeout(2) end
    local isCalled, answer = pcall(HttpPost, url .. '/wake', body, headers)
    if SetHttpTimeout ~= nil then SetHttpTimeout(configuration['HttpTimeout'] or 0) end
    return isCalled and answer ~= nil
end

local function ring()
    local began = os.time()
    if url == nil or began < silentUntil then return end
    if post() then
        if pause > 0 then print('DCM Processor: ingest answers again') end
        pause = 0
    else
        if pause == 0 then print('DCM Processor: ingest does not answer; it will look for new images by itself') end
        pause = math.min(longest, math.max(shortest, 2 * pause))
        -- One that hangs costs more than one that refuses.
        silentUntil = os.time() + math.max(pause, 30 * (os.time() - began))
    end
end

-- Functions of the same name in scripts loaded before this one are kept.
local function behind(previous)
    return function(...)
        ring()
        if previous ~= nil then return previous(...) end
    end
end

if url ~= nil then
    url = string.gsub(url, '/+$', '')
    OnStableSeries = behind(OnStableSeries)
    OnStableStudy = behind(OnStableStudy)
    OnStablePatient = behind(OnStablePatient)
end

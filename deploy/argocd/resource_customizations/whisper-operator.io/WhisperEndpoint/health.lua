-- The health of a WhisperEndpoint, by what the operator says of its current spec. Needs none of Lua's libraries but the base.

local function health(status, message)
  return { status = status, message = message }
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "The endpoint is being deleted.")
end

-- What is said of an earlier spec tells nothing of this one.
local status = obj.status or {}
local conditions = {}
if status.observedGeneration == obj.metadata.generation then
  for _, condition in ipairs(status.conditions or {}) do
    conditions[condition.type] = condition
  end
end

local ready = conditions.Ready
if ready == nil then
  return health("Progressing", "The operator has not looked at this spec yet.")
end

-- Nothing changes until a person acts.
if conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  return health("Degraded", conditions.Stalled.message)
end

if ready.status ~= "True" then
  return health("Progressing", ready.message)
end

if ready.reason == "Suspended" then
  return health("Suspended", ready.message)
end

return health("Healthy", ready.message)

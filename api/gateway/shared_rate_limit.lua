-- Runs a batch of rate-limit operations, in order, as one atomic step on the server's clock.
-- KEYS[i] is what operation i works on; ARGV: the worker, its lease in milliseconds, then for every operation
-- its verb and two numbers. Answers one integer an operation; a refused take answers milliseconds to wait.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local worker, lease = ARGV[1], tonumber(ARGV[2])

local function stamp(key, index) return tonumber(redis.call('LINDEX', key, index)) end

-- Drops the takes that left the window; answers how many are in it.
local function trim(key, window)
  local size = redis.call('LLEN', key)
  local last = size - 1
  while last >= 0 and stamp(key, last) > now do -- the clock was set back: such a take counts from now
    redis.call('LSET', key, last, now)
    last = last - 1
  end
  if size == 0 or stamp(key, 0) > now - window then return size end
  local low, high = 1, size
  while low < high do
    local middle = math.floor((low + high) / 2)
    if stamp(key, middle) <= now - window then low = middle + 1 else high = middle end
  end
  redis.call('LTRIM', key, low, -1)
  return size - low
end

-- Answers the calls in flight of all living workers, and of this one.
local function busy(key)
  local total, mine, fields = 0, 0, redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local count, till = string.match(fields[i + 1], '(%d+):(%d+)')
    count, till = tonumber(count), tonumber(till)
    if till > now + lease then -- the clock was set back
      till = now + lease
      redis.call('HSET', key, fields[i], count .. ':' .. string.format('%d', till))
    end
    if till <= now then
      redis.call('HDEL', key, fields[i])
    else
      total = total + count
      if fields[i] == worker then mine = count end
    end
  end
  return total, mine
end

local function hold(key, count)
  if count == 0 then return redis.call('HDEL', key, worker) end
  redis.call('HSET', key, worker, count .. ':' .. string.format('%d', now + lease))
  redis.call('PEXPIRE', key, lease)
end

local run = {}

function run.take(key, limit, window)
  local size = trim(key, window)
  if limit < 1 then return window end
  if size >= limit then return stamp(key, size - limit) + window - now end
  redis.call('RPUSH', key, now)
  redis.call('PEXPIRE', key, window)
  return 0
end

function run.give_back(key) redis.call('RPOP', key) return 0 end

function run.used(key, _, window) return trim(key, window) end

function run.enter(key, limit)
  local total, mine = busy(key)
  if total >= limit then return 0 end
  hold(key, mine + 1)
  return 1
end

function run.hold(key, count) hold(key, count) return 0 end

function run.in_flight(key) local total = busy(key) return total end

function run.alive(key)
  redis.call('ZADD', key, now + lease, worker)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  redis.call('ZREMRANGEBYSCORE', key, '(' .. string.format('%d', now + lease), '+inf')
  redis.call('PEXPIRE', key, lease)
  return redis.call('ZCARD', key)
end

function run.gone(key) redis.call('ZREM', key, worker) return 0 end

local answers = {}
for i = 1, #KEYS do
  local at = 3 * i
  answers[i] = run[ARGV[at]](KEYS[i], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]))
end
return answers

-- What limits count, one atomic step at a time. Everything is read and reckoned before anything is written, because
-- Redis does not undo what a script did before it failed.
--
-- KEYS[1] begins every key:
--   :account:NAME   hash: slice -> "spent held expired", and "known" once it was seeded
--   :accounts       sorted set: names, by the time (Unix seconds) at which they may be forgotten
--   :hold:ID        hash: owner, claims (packed), entry, and "expired" once its owner was taken for dead
--   :holds:OWNER    set: the ids of an owner's holds
--   :owners         sorted set: who may have live holds, by the last sign of life (Unix seconds)
--   :fence:OWNER    the number that an owner's batches have to bear: those given up for lost have an earlier one
--
-- Lua's numbers are exact up to 2^53. So amounts are decimal digits outside, and high * 10^9 + low inside.

local BASE = 1e9
local MOST_HIGH, MOST_LOW = 9223372036, 854775807 -- 2^63 - 1: what is more counts as this
local KEPT_SLICES = 26 -- twice what a rolling period has, so that a late call finds its own
local DORMANT = 62 * 86400 -- seconds after which a slice counts in no period but a lifetime
local ACCOUNT, METER, SLICE, OLDEST, AMOUNT, LIMIT = 1, 2, 3, 4, 5, 6 -- of a claim
local SPENT, HELD, EXPIRED = 1, 3, 5 -- of a cell, each the place of its high part

local prefix = KEYS[1]
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6

local accounts, holds = {}, {} -- as read so far, by name and by id
local made, ended, expired = {}, {}, {} -- holds to write

local function split(digits)
  return tonumber(string.sub(digits, 1, -10)) or 0, tonumber(string.sub(digits, -9))
end

local function join(high, low)
  if high == 0 then return string.format('%.0f', low) end
  return string.format('%.0f%09.0f', high, low)
end

local function join_all(amounts, between)
  local texts = {join(amounts[1], amounts[2]), join(amounts[3], amounts[4]), join(amounts[5], amounts[6])}
  return table.concat(texts, between)
end

local function carry(high, low)
  return high + math.floor(low / BASE), low % BASE
end

local function add(cell, place, digits, sign)
  local high, low = split(digits)
  high, low = carry(cell[place] + sign * high, cell[place + 1] + sign * low)
  if high < 0 then
    high, low = 0, 0
  elseif high > MOST_HIGH or high == MOST_HIGH and low > MOST_LOW then
    high, low = MOST_HIGH, MOST_LOW
  end
  cell[place], cell[place + 1] = high, low
end

-- Accounts

local function find_account(name)
  local account = accounts[name]
  if account then return account end
  account = {cells = {}, changed = {}}
  accounts[name] = account
  local stored = redis.call('HGETALL', prefix .. ':account:' .. name)
  for place = 1, #stored, 2 do
    if stored[place] == 'known' then
      account.known = true
    else
      local cell = {}
      for digits in string.gmatch(stored[place + 1], '%d+') do
        cell[#cell + 1], cell[#cell + 2] = split(digits)
      end
      account.cells[tonumber(stored[place])] = cell
    end
  end
  return account
end

local function cell_of(name, slice)
  local account = find_account(name)
  local cell = account.cells[slice]
  if not cell then
    cell = {0, 0, 0, 0, 0, 0}
    account.cells[slice] = cell
    account.opened = true
  end
  account.changed[slice] = cell
  return cell
end

local function touch(claim)
  if claim[SLICE] == 0 and claim[METER] ~= 'concurrent' then find_account(claim[ACCOUNT]).lasting = true end
  return cell_of(claim[ACCOUNT], claim[SLICE])
end

local function balance_of(claim)
  local sums = {0, 0, 0, 0, 0, 0}
  for slice, cell in pairs(find_account(claim[ACCOUNT]).cells) do
    if slice >= claim[OLDEST] then
      for place = 1, 6 do sums[place] = sums[place] + cell[place] end
    end
  end
  for place = 1, 5, 2 do sums[place], sums[place + 1] = carry(sums[place], sums[place + 1]) end
  return sums
end

local function fits(claim, balance)
  if claim[LIMIT] == '' then return true end
  local high, low = split(claim[AMOUNT])
  high, low = carry(balance[1] + balance[3] + balance[5] + high, balance[2] + balance[4] + balance[6] + low)
  local limit_high, limit_low = split(claim[LIMIT])
  return high < limit_high or high == limit_high and low <= limit_low
end

-- Holds

local function find_hold(id)
  if holds[id] == nil then
    local stored = redis.call('HMGET', prefix .. ':hold:' .. id, 'owner', 'claims', 'expired')
    holds[id] = stored[1] and {owner = stored[1], claims = cmsgpack.unpack(stored[2]), expired = stored[3]}
  end
  return holds[id]
end

local function resolve(id, usd, tokens, calls)
  local hold = find_hold(id)
  if not hold then return end
  local used = {usd = usd, tokens = tokens, calls = calls, concurrent = '0'}
  for _, claim in ipairs(hold.claims) do
    local cell, amount = touch(claim), used[claim[METER]]
    add(cell, SPENT, amount == '' and claim[AMOUNT] or amount, 1)
    if not hold.expired then
      add(cell, HELD, claim[AMOUNT], -1)
    elseif claim[METER] ~= 'concurrent' then
      add(cell, EXPIRED, claim[AMOUNT], -1)
    end
  end
  holds[id] = false
  ended[id] = hold.owner
end

local function expire(id)
  local hold = find_hold(id)
  if not hold or hold.expired then return end
  hold.expired = true
  expired[#expired + 1] = id
  for _, claim in ipairs(hold.claims) do
    local cell = touch(claim)
    add(cell, HELD, claim[AMOUNT], -1)
    -- Attempts under way ended with their process; money may be owed.
    if claim[METER] ~= 'concurrent' then add(cell, EXPIRED, claim[AMOUNT], 1) end
  end
end

-- A verdict as JSON: [granted, [[spent, held, expired], ...], short, [places of unknown accounts]].
local function verdict(granted, balances, short, unknown)
  local texts = {}
  for place, sums in ipairs(balances) do texts[place] = '[' .. join_all(sums, ',') .. ']' end
  local balances_text, unknown_text = table.concat(texts, ','), table.concat(unknown, ',')
  return string.format('[%s,[%s],%d,[%s]]', tostring(granted), balances_text, short, unknown_text)
end

local function take(owner, id, packed, entry)
  local claims, unknown, balances = cmsgpack.unpack(packed), {}, {}
  for place, claim in ipairs(claims) do
    if claim[METER] == 'usd' and not find_account(claim[ACCOUNT]).known then unknown[#unknown + 1] = place - 1 end
  end
  if unknown[1] then return verdict(false, balances, -1, unknown) end
  for place, claim in ipairs(claims) do balances[place] = balance_of(claim) end
  if find_hold(id) then return verdict(true, balances, -1, unknown) end
  for place, claim in ipairs(claims) do
    if not fits(claim, balances[place]) then return verdict(false, balances, place - 1, unknown) end
  end
  for _, claim in ipairs(claims) do add(touch(claim), HELD, claim[AMOUNT], 1) end
  holds[id] = {owner = owner, claims = claims}
  made[id] = {'owner', owner, 'claims', packed, 'entry', entry}
  return verdict(true, balances, -1, unknown)
end

-- Writing

local function forget_old(name, account)
  local slices = {}
  for slice in pairs(account.cells) do slices[#slices + 1] = slice end
  table.sort(slices)
  for place = 1, #slices - KEPT_SLICES do
    local cell = account.cells[slices[place]]
    if cell[3] + cell[4] + cell[5] + cell[6] == 0 then
      redis.call('HDEL', prefix .. ':account:' .. name, string.format('%.0f', slices[place]))
    end
  end
end

local function write_account(name, account)
  local key = prefix .. ':account:' .. name
  if account.seeded then redis.call('HSET', key, 'known', '') end
  for slice, cell in pairs(account.changed) do
    redis.call('HSET', key, string.format('%.0f', slice), join_all(cell, ' '))
  end
  if account.opened then forget_old(name, account) end
  if account.lasting then
    redis.call('PERSIST', key)
    redis.call('ZADD', prefix .. ':accounts', '+inf', name)
  else
    redis.call('EXPIRE', key, DORMANT)
    redis.call('ZADD', prefix .. ':accounts', string.format('%.0f', now + DORMANT), name)
  end
end

local function write()
  for id, owner in pairs(ended) do
    redis.call('DEL', prefix .. ':hold:' .. id)
    redis.call('SREM', prefix .. ':holds:' .. owner, id)
  end
  for id, fields in pairs(made) do
    redis.call('HSET', prefix .. ':hold:' .. id, unpack(fields))
    redis.call('EXPIRE', prefix .. ':hold:' .. id, DORMANT)
    redis.call('SADD', prefix .. ':holds:' .. holds[id].owner, id)
    redis.call('ZADD', prefix .. ':owners', 'NX', string.format('%.6f', now), holds[id].owner)
  end
  for _, id in ipairs(expired) do redis.call('HSET', prefix .. ':hold:' .. id, 'expired', 1) end
  for name, account in pairs(accounts) do
    if account.seeded or next(account.changed) then write_account(name, account) end
  end
end

-- What can be asked

local actions = {}

-- A number for an owner's batches from now on; what was sent before under another one does nothing any more.
function actions.enter(owner)
  local fence = redis.call('INCR', prefix .. ':fence:' .. owner)
  redis.call('EXPIRE', prefix .. ':fence:' .. owner, DORMANT)
  return fence
end

-- Resolve, then hold: a verdict for each hold as a JSON array, or nothing when the fence is not this one.
function actions.apply(owner, fence, resolutions)
  if redis.call('GET', prefix .. ':fence:' .. owner) ~= fence then return false end
  for _, resolution in ipairs(cmsgpack.unpack(resolutions)) do resolve(unpack(resolution)) end
  local verdicts = {}
  for place = 5, #ARGV, 3 do
    verdicts[#verdicts + 1] = take(owner, ARGV[place], ARGV[place + 1], ARGV[place + 2])
  end
  write()
  return '[' .. table.concat(verdicts, ',') .. ']'
end

-- An owner's holds: id, claims and entry of each.
function actions.orphans(owner)
  local found = {}
  for _, id in ipairs(redis.call('SMEMBERS', prefix .. ':holds:' .. owner)) do
    local stored = redis.call('HMGET', prefix .. ':hold:' .. id, 'claims', 'entry')
    if stored[1] then found[#found + 1] = {id, stored[1], stored[2]} end
  end
  return found
end

-- Make an account known, with what was spent by slice.
function actions.seed(name, spent)
  local account = find_account(name)
  if account.known then return end
  account.seeded = true
  for _, pair in ipairs(cmsgpack.unpack(spent)) do
    if pair[1] == 0 then account.lasting = true end
    add(cell_of(name, pair[1]), SPENT, pair[2], 1)
  end
  write()
end

-- Note a sign of life, and expire what those hold who gave none for so many seconds.
function actions.beat(owner, lease)
  local silent = redis.call('ZRANGEBYSCORE', prefix .. ':owners', '-inf', string.format('(%.6f', now - lease))
  for _, other in ipairs(silent) do
    if other ~= owner then
      for _, id in ipairs(redis.call('SMEMBERS', prefix .. ':holds:' .. other)) do expire(id) end
    end
  end
  write()
  for _, other in ipairs(silent) do
    redis.call('ZREM', prefix .. ':owners', other)
    redis.call('EXPIRE', prefix .. ':holds:' .. other, DORMANT)
  end
  redis.call('ZADD', prefix .. ':owners', string.format('%.6f', now), owner)
  redis.call('EXPIRE', prefix .. ':holds:' .. owner, DORMANT)
  redis.call('EXPIRE', prefix .. ':fence:' .. owner, DORMANT)
  redis.call('ZREMRANGEBYSCORE', prefix .. ':accounts', '-inf', string.format('(%.0f', now))
end

return actions[ARGV[1]](ARGV[2], ARGV[3], ARGV[4])

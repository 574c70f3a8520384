local script = require "spec.model.script"

-- One seed in so many suffices under what slows everything down.
local every = tonumber(os.getenv "MODEL_EVERY" or 1)

describe("barriers and the model of the contract", function()
  after_each(script.restore)

  local function check(first, last, length)
    for seed = first, last, every do
      assert.is_nil((script.check(seed, length, seed % 8 == 0)))
    end
  end

  it("do the same in short random scripts", function()
    check(1, 200, 40)
  end)

  it("do the same in long ones", function()
    check(1001, 1012, 500)
  end)

  it("do the same with seeds that are new every day", function()
    local today = os.time() - os.time() % 86400
    check(today, today + 30, 100)
  end)
end)

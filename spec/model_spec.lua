local script = require "spec.model.script"

describe("barriers and the model of the contract", function()
  it("do the same in random scripts", function()
    for seed = 1, 150 do
      assert.are.equal(true, script.check(seed, 60))
    end
  end)

  it("do the same in long ones", function()
    for seed = 1001, 1006 do
      assert.are.equal(true, script.check(seed, 800))
    end
  end)

  it("do the same with seeds that are new every day", function()
    local today = os.time() - os.time() % 86400
    for seed = today, today + 20 do
      assert.are.equal(true, script.check(seed, 100))
    end
  end)
end)

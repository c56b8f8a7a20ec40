import Jobs
import Synchronization
import Testing

@testable import Worker

@Suite(.timeLimit(.minutes(1))) struct ResourceTokensTests {
    private static let gigabyte: Int64 = 1 << 30

    @Test("Jobs get what they want while there is some, each GPU once")
    func grants() async throws {
        let tokens = ResourceTokens(memory: 8 * Self.gigabyte, devices: ["0", "1", "5"])
        let first = try #require(await tokens.take(JobResources(memory: 4 * Self.gigabyte, gpus: 2)) { _ in })
        #expect(first == .init(memory: 4 * Self.gigabyte, devices: ["0", "1"]))
        let second = try #require(await tokens.take(JobResources(gpus: 1)) { _ in })
        #expect(second.devices == ["5"])
        tokens.release(first)
        let third = try #require(await tokens.take(JobResources(gpus: 1)) { _ in })
        #expect(third.devices == ["0"])
    }

    @Test("Only the job's own devices are in its environment, and none for jobs that want none")
    func environment() async throws {
        let tokens = ResourceTokens(memory: 0, devices: ["3", "4"])
        let both = try #require(await tokens.take(JobResources(gpus: 2)) { _ in })
        #expect(tokens.environment(both) == ["CUDA_VISIBLE_DEVICES": "3,4"])
        let none = try #require(await tokens.take(.none) { _ in })
        #expect(tokens.environment(none) == ["CUDA_VISIBLE_DEVICES": ""])
        let silent = ResourceTokens(memory: 0, devices: nil)
        let grant = try #require(await silent.take(.none) { _ in })
        #expect(silent.environment(grant) == [:])
    }

    @Test("What this worker can never give is said at once; what it can give is no lack, however busy it is")
    func lack() async {
        let tokens = ResourceTokens(memory: 4 * Self.gigabyte, devices: ["0"])
        #expect(tokens.lack(for: JobResources(memory: 4 * Self.gigabyte, gpus: 1)) == nil)
        #expect(tokens.lack(for: JobResources(gpus: 2)) == "it wants 2 GPUs and this worker has 1 (WORKER_GPUS)")
        #expect(tokens.lack(for: JobResources(memory: 5 * Self.gigabyte))?.hasSuffix("this worker has 4G (WORKER_MEMORY)") == true)
        #expect(ResourceTokens(memory: 1, devices: nil).lack(for: JobResources(gpus: 1))?.contains("has none") == true)
        _ = await tokens.take(JobResources(gpus: 1)) { _ in }
        #expect(tokens.lack(for: JobResources(gpus: 1)) == nil)
    }

    @Test("First come, first served: a small job does not overtake a big one that waits, and nobody waits for what was cancelled")
    func order() async throws {
        let tokens = ResourceTokens(memory: 8 * Self.gigabyte, devices: nil)
        let running = try #require(await tokens.take(JobResources(memory: 6 * Self.gigabyte)) { _ in })
        let (log, said) = (Lines(), Lines())
        func start(_ name: String, _ gigabytes: Int64) async -> Task<ResourceTokens.Grant?, Never> {
            let count = said.all.count
            let task = Task {
                let grant = await tokens.take(JobResources(memory: gigabytes * Self.gigabyte)) { said.add($0) }
                log.add(grant == nil ? "\(name) cancelled" : name)
                return grant
            }
            #expect(await eventually { said.all.count > count })
            return task
        }
        let big = await start("big", 8)
        let small = await start("small", 1)
        #expect(said.all == ["waits for 8G of memory", "waits for 1G of memory"])
        #expect(log.all == [])
        big.cancel()
        #expect(await big.value == nil)
        // 2 GB were free all the time.
        let grant = try #require(await small.value)
        #expect(Set(log.all) == ["big cancelled", "small"])
        let next = await start("next", 8)
        tokens.release(running)
        #expect(log.all.count == 2)
        tokens.release(grant)
        #expect(await next.value?.memory == 8 * Self.gigabyte)
    }

    @Test("Under a crowd that comes, waits and is cancelled, nothing is given twice and nothing gets lost")
    func crowd() async {
        let tokens = ResourceTokens(memory: 8, devices: ["a", "b"])
        let use = Use()
        await withTaskGroup { group in
            for number in 0..<300 {
                group.addTask {
                    let wanted = JobResources(memory: Int64(1 + number % 8), gpus: number % 3)
                    let task = Task {
                        guard let grant = await tokens.take(wanted, onWait: { _ in }) else { return }
                        use.begin(grant)
                        await Task.yield()
                        use.end(grant)
                        tokens.release(grant)
                    }
                    if number % 5 == 0 { task.cancel() }
                    await task.value
                }
            }
        }
        #expect(use.wrong == 0)
        let all = await tokens.take(JobResources(memory: 8, gpus: 2)) { _ in }
        #expect(all == .init(memory: 8, devices: ["a", "b"]))
    }
}

private final class Lines: Sendable {
    private let lines = Mutex<[String]>([])
    var all: [String] { lines.withLock { $0 } }
    func add(_ line: String) { lines.withLock { $0.append(line) } }
}

/// What is in use, of 8 bytes and each device once.
private final class Use: Sendable {
    private struct State {
        var devices: Set<String> = []
        var memory: Int64 = 0
        var wrong = 0
    }

    private let state = Mutex(State())
    var wrong: Int { state.withLock { $0.wrong } }

    func begin(_ grant: ResourceTokens.Grant) {
        state.withLock { state in
            if !state.devices.isDisjoint(with: grant.devices) || state.memory + grant.memory > 8 { state.wrong += 1 }
            state.devices.formUnion(grant.devices)
            state.memory += grant.memory
        }
    }

    func end(_ grant: ResourceTokens.Grant) {
        state.withLock { state in
            state.devices.subtract(grant.devices)
            state.memory -= grant.memory
        }
    }
}

import Bootstrap
import Configuration
import Testing

@testable import Worker

@Suite struct WorkerConfigurationTests {
    private func configuration(_ variables: [String: String]) throws -> WorkerConfiguration {
        try WorkerConfiguration(
            Settings(reader: ConfigReader(provider: EnvironmentVariablesProvider(environmentVariables: variables))))
    }

    @Test(
        "Channels, under our name or upstream's",
        arguments: [
            ([:], ["default"]), (["WORKER_CHANNELS": "gpu, default gpu"], ["gpu", "default"]),
            (["JOBS": "default medium low"], ["default"]), (["WORKER_JOBS": "gpu low"], ["gpu", "default"]),
            (["WORKER_CHANNELS": "low", "JOBS": "gpu"], ["low"]),
        ] as [([String: String], [String])])
    func channels(variables: [String: String], channels: [String]) throws {
        #expect(try configuration(variables).channels == channels)
    }

    @Test(
        "GPUs: a number of them, or their ids",
        arguments: [
            (nil, nil), ("0", []), ("2", ["0", "1"]), ("0,1", ["0", "1"]), ("3,", ["3"]), ("GPU-8f2a MIG-1/0", ["GPU-8f2a", "MIG-1/0"]),
        ] as [(String?, [String]?)])
    func gpus(text: String?, ids: [String]?) throws {
        #expect(try configuration(text.map { ["WORKER_GPUS": $0] } ?? [:]).gpus == ids)
    }

    @Test("Memory, and how jobs stand back")
    func others() throws {
        let full = try configuration(["WORKER_MEMORY": "16G", "JOB_NICE": "10", "JOB_IONICE": "best-effort:7"])
        #expect(full.memory == 16 << 30)
        #expect(full.niceness.cpu == 10)
        #expect(full.niceness.disk == "best-effort:7")
        let plain = try configuration([:])
        #expect(plain.memory == Machine.now().memory)
        #expect(plain.niceness.cpu == nil)
        #expect(plain.niceness.disk == nil)
    }

    @Test(
        "What is not allowed stops the worker with the variable's name",
        arguments: [
            ("WORKER_CHANNELS", "GPU"), ("JOBS", "a.b"), ("WORKER_GPUS", "0,0"), ("WORKER_GPUS", "65"), ("WORKER_GPUS", "a;b"),
            ("WORKER_MEMORY", "much"), ("JOB_NICE", "-1"), ("JOB_NICE", "20"), ("JOB_IONICE", "realtime:0"),
        ])
    func mistakes(variable: String, value: String) throws {
        let error = try #require(throws: SettingError.self) { try configuration([variable: value]) }
        #expect(error.variable == variable)
        #expect(error.value != nil)
    }
}

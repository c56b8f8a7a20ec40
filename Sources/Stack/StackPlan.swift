package import Foundation

/// Which processes make up a stack, with which files, ports and variables.
package struct StackPlan: Sendable {
    package let home: StackHome
    package let settings: StackSettings
    package let secrets: StackSecrets
    package let ports: StackPorts
    /// Sentences for the person who starts the stack.
    package let notes: [String]
    package let broker: BrokerNode
    package let orthanc: OrthancNode
    private let checkout: URL?
    /// The folder of dcm-ingest, dcm-router, dcm-worker and dcm-monitor.
    private let executables: URL

    /// Names of the services that run once, in the order of the flow.
    package static let services = ["router", "ingest", "monitor"]

    package static func worker(_ number: Int) -> String { "worker-\(number)" }

    /// Makes the folders, secrets, ports and configuration files that are still missing.
    ///
    /// - Throws: ``StackError``: a folder that cannot be written, a bad setting, a fixed port in use, a missing program.
    package static func prepare(
        home: StackHome,
        environment: [String: String],
        checkout: URL?,
        executables: URL,
        defaults: [String: String] = [:],
    ) throws -> StackPlan {
        try home.makeFolders()
        try StackSecrets.generateMissing(in: home)
        let settings = try StackSettings(environment: environment, home: home.folder, checkout: checkout, defaults: defaults)
        let secrets = StackSecrets(settings)
        let (ports, notes) = try StackPorts.resolve(home.portsFile, settings: settings)
        let plan = StackPlan(
            home: home,
            settings: settings,
            secrets: secrets,
            ports: ports,
            notes: notes,
            broker: BrokerNode(
                folder: home.broker,
                logFile: home.logFile("broker"),
                ports: BrokerNode.Ports(
                    amqp: ports.amqp,
                    distribution: ports.brokerDistribution,
                    epmd: ports.epmd,
                    management: ports.management,
                    prometheus: ports.prometheus,
                ),
                user: secrets.brokerUser,
                password: secrets.brokerPassword,
                cookie: secrets.erlangCookie,
                management: true,
            ),
            orthanc: OrthancNode(
                folder: home.orthanc,
                logFile: home.logFile("orthanc"),
                httpPort: ports.orthanc,
                dicomPort: ports.dicom,
                user: secrets.orthancUser,
                password: secrets.orthancPassword,
                stableAge: try settings.stableAge(),
                hook: hook(checkout, settings, ports, secrets),
            ),
            checkout: checkout,
            executables: executables,
        )
        let bundled = settings["BUNDLED_SERVICES"].map { URL(fileURLWithPath: $0) } ?? checkout?.appendingPathComponent("services")
        try home.fillServices(
            from: BundledServices(bundled),
            setting: settings[BundledServices.variable],
            pipeline: checkout?.appendingPathComponent("registry/settings.json"),
        )
        if settings["ANONYMIZER_KEY_FILE"] == nil { try SecretFile.generate(home.anonymizerKey) }
        try plan.broker.writeFiles()
        try plan.orthanc.writeFiles()
        for service in services + ["worker"] { _ = try plan.executable(service) }
        return plan
    }

    /// Orthanc's doorbell at ingest, where the script for it is.
    private static func hook(
        _ checkout: URL?, _ settings: StackSettings, _ ports: StackPorts, _ secrets: StackSecrets
    ) -> OrthancNode.Hook? {
        guard let script = checkout?.appendingPathComponent("deploy/orthanc/dcm-wake.lua"), FileSystem.exists(script) else { return nil }
        return OrthancNode.Hook(
            script: script, url: "http://\(Endpoints.reachable(settings.ingestHost)):\(ports.ingest)", token: secrets.ingestToken)
    }

    package var endpoints: Endpoints {
        Endpoints(home: home, settings: settings, secrets: secrets, ports: ports, broker: broker)
    }

    /// The children of a stack with so many workers, those that others wait for first.
    package func children(workers: Int) -> [ChildSpec] {
        [portMapper, brokerServer, orthancServer]
            + Self.services.map { service($0, executable: $0, extra: $0 == "ingest" ? ingestEnvironment : [:]) }
            + (0..<workers).map { worker(number: $0 + 1) }
    }

    /// Names in the order in which they are stopped; those of one group together.
    package static func stopOrder(of names: [String]) -> [[String]] {
        let late: [[String]] = [["router"], ["monitor", "orthanc", "broker"], ["epmd"]]
        let first = names.filter { name in !late.contains { $0.contains(name) } }
        return ([first] + late.map { $0.filter(names.contains) }).filter { !$0.isEmpty }
    }

    // MARK: The servers

    private var portMapper: ChildSpec {
        let node = broker
        return ChildSpec(name: "epmd", grace: .seconds(3)) {
            try node.portMapper()
        } readiness: { _ in
            FreePorts.isFree(node.ports.epmd) ? .notYet : .ready
        }
    }

    private var brokerServer: ChildSpec {
        let node = broker
        return ChildSpec(name: "broker", after: ["epmd"], grace: .seconds(60), startLimit: .seconds(120)) {
            try node.server()
        } prepare: {
            FileSystem.remove(node.pidFile)
        } readiness: { _ in
            do {
                try await node.logIn()
                return .ready
            } catch let error as StackError where error.code == .refused {
                return .broken(
                    "\(error.message) A node keeps the password of its first start: set RABBITMQ_PASSWORD to that one again, "
                        + "or remove \(node.folder.path) with all messages in it."
                )
            } catch {
                return .notYet
            }
        }
    }

    private var orthancServer: ChildSpec {
        let node = orthanc
        return ChildSpec(name: "orthanc", grace: .seconds(60), startLimit: .seconds(60)) {
            try node.server()
        } readiness: { _ in
            do {
                try await node.checkSystem()
                return .ready
            } catch let error as StackError where error.code == .refused {
                return .broken(error.message)
            } catch {
                return .notYet
            }
        }
    }

    // MARK: The services

    private func worker(number: Int) -> ChildSpec {
        let name = Self.worker(number)
        // Its own time for running jobs to end, and some for killing, handing back and reporting.
        let grace = (settings["WORKER_GRACE"].flatMap(Double.init) ?? 20) + 40
        return service(name, executable: "worker", grace: .seconds(grace), extra: ["WORKER_ID": name])
    }

    private func service(
        _ name: String,
        executable: String,
        grace: Duration = .seconds(45),
        extra: [String: String] = [:],
    ) -> ChildSpec {
        let readyFile = home.readyFile(name)
        let logFile = home.logFile(name)
        let environment = serviceEnvironment.merging(["READY_FILE": readyFile.path]) { $1 }.merging(extra) { $1 }
        return ChildSpec(name: name, after: ["broker", "orthanc"], grace: grace, staysWatched: true) {
            Command(name: name, executable: try self.executable(executable), environment: environment, logFile: logFile)
        } prepare: {
            FileSystem.remove(readyFile)
        } readiness: { process in
            ReadyFile.readiness(of: readyFile, pid: process.pid)
        }
    }

    /// What only ingest gets: jobs see the environment of their worker.
    private var ingestEnvironment: [String: String] {
        ["INGEST_HOST": settings.ingestHost, "INGEST_PORT": "\(ports.ingest)", "INGEST_TOKEN": secrets.ingestToken]
    }

    private func executable(_ service: String) throws -> String {
        let path = executables.appendingPathComponent("dcm-\(service)").path
        guard FileManager.default.isExecutableFile(atPath: path) else {
            throw StackError(.notFound, "\(path) is not there. './dcm up' builds it; '--bin' names another folder.")
        }
        return path
    }

    /// What every service gets: all settings, and over them the places of this stack.
    private var serviceEnvironment: [String: String] {
        var values = settings.values
        values["AMQP_URL"] = broker.amqpURL
        values["RABBITMQ_MANAGEMENT_URL"] = broker.managementURL
        values["MONITOR_ORTHANC_URL"] = settings["MONITOR_ORTHANC_URL"] ?? orthanc.url
        values["STATE"] = home.state.path
        values["DATA"] = home.data.path
        values["LOGS"] = home.logs.path
        values["REGISTRY"] = home.registry.path
        values["MODULES"] = home.modules.path
        values["ENVIRONMENTS"] = settings["ENVIRONMENTS"] ?? home.environments.path
        values["ANONYMIZER_KEY_FILE"] = settings["ANONYMIZER_KEY_FILE"] ?? home.anonymizerKey.path
        values["SETTINGS"] = settings["SETTINGS"] ?? home.registry.appendingPathComponent("settings.json").path
        // All places are absolute here; upstream's prefix for them would only be put in front of them.
        values["BASEDIR"] = nil
        values["ORTHANC_REST_URL"] = orthanc.url
        values["ORTHANC_REST_USERNAME"] = secrets.orthancUser
        values["ORTHANC_REST_PASSWORD"] = secrets.orthancPassword
        values["ORTHANC_STABLE_AGE"] = "\(orthanc.stableAge)"
        values["EVENTS"] = settings["EVENTS"] ?? "study"
        values["MONITOR_HOST"] = settings.monitorHost
        values["MONITOR_PORT"] = "\(ports.monitor)"
        values["MONITOR_TOKEN"] = secrets.monitorToken
        values["INGEST_TOKEN"] = nil
        values["PYTHON"] = settings.python
        values["LOG_LEVEL"] = settings["LOG_LEVEL"] ?? "info"
        values["PYTHONHOST_PATH"] = settings["PYTHONHOST_PATH"] ?? checkout?.appendingPathComponent("python").path
        return values
    }
}

package import Foundation

/// An Orthanc server with everything of its own under one folder.
package struct OrthancNode: Sendable, Equatable {
    /// How Orthanc rings at ingest when something has become stable: deploy/orthanc's script for Lua (`.lua`) or for its Python plugin.
    package struct Hook: Sendable, Equatable {
        package var script: URL
        /// Ingest's endpoint.
        package var url: String
        package var token: String

        package init(script: URL, url: String, token: String) {
            self.script = script
            self.url = url
            self.token = token
        }

        var isLua: Bool { script.pathExtension == "lua" }
    }

    package var folder: URL
    package var logFile: URL
    package var httpPort: UInt16
    package var dicomPort: UInt16
    package var aet: String
    package var user: String
    package var password: String
    /// Seconds without a new instance after which a series, study or patient is called stable; at least 1.
    package var stableAge: Int
    package var overwriteInstances: Bool
    package var hook: Hook?
    /// Beyond so many, the oldest one is deleted when another one comes; 0 for as many as come.
    package var maximumPatients: Int

    package init(
        folder: URL,
        logFile: URL? = nil,
        httpPort: UInt16,
        dicomPort: UInt16,
        aet: String = "ORTHANC",
        user: String = "dcm",
        password: String = Secret.generate(),
        stableAge: Int = 60,
        overwriteInstances: Bool = false,
        hook: Hook? = nil,
        maximumPatients: Int = 0,
    ) {
        self.folder = folder
        self.logFile = logFile ?? folder.appendingPathComponent("orthanc.log")
        self.httpPort = httpPort
        self.dicomPort = dicomPort
        self.aet = aet
        self.user = user
        self.password = password
        self.stableAge = stableAge
        self.overwriteInstances = overwriteInstances
        self.hook = hook
        self.maximumPatients = maximumPatients
    }

    package var url: String { "http://127.0.0.1:\(httpPort)" }
    private var configurationFile: URL { folder.appendingPathComponent("orthanc.json") }
    private var storageFolder: URL { folder.appendingPathComponent("Storage") }

    /// Where Debian's packages put plugins, those that are there.
    package static var plugins: [String] {
        let folder = "/usr/share/orthanc/plugins"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.filter { $0.hasPrefix("libOrthancPython.so") }.sorted().suffix(1).map { "\(folder)/\($0)" }
    }

    package func writeFiles() throws {
        for part in [folder, storageFolder] { try FileSystem.makeFolder(part, mode: 0o700) }
        let configuration = Configuration(node: self, storage: storageFolder.path)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try FileSystem.write(try encoder.encode(configuration), to: configurationFile, mode: 0o600)
    }

    package func server() throws -> Command {
        let executable: String
        do {
            executable = try FileSystem.program("Orthanc", candidates: ["/usr/sbin/Orthanc", "/usr/local/sbin/Orthanc"])
        } catch {
            throw StackError(.notFound, "Orthanc is not installed; on Debian and Ubuntu: apt-get install orthanc.")
        }
        var environment = Command.plainEnvironment
        environment["HOME"] = folder.path
        // Orthanc answers each C-STORE with two writes; without this the second waits for the sender's delayed
        // acknowledgement, and reception is 2.7 times slower.
        environment["TCP_NODELAY"] = "1"
        if let hook {
            environment["INGEST_URL"] = hook.url
            environment["INGEST_TOKEN"] = hook.token
        }
        return Command(
            name: "orthanc",
            executable: executable,
            arguments: [configurationFile.path],
            environment: environment,
            logFile: logFile,
        )
    }

    /// - Throws: ``StackError`` `.unreachable`, or `.refused` when the server does not take the credentials.
    package func checkSystem() async throws {
        let answer = try await LoopbackHTTP.request(
            "GET",
            URL(string: "\(url)/system")!,
            credentials: .basic(user: user, password: password),
            limit: .seconds(2),
        )
        guard answer.status == 200 else {
            throw StackError(.refused, "Orthanc at \(url) answers /system with status \(answer.status) for the user '\(user)'.")
        }
    }

    /// Orthanc's configuration file, as far as it differs from the defaults of 1.10 to 1.13.
    private struct Configuration: Encodable {
        let Name = "DCM Processor"
        let StorageDirectory: String
        let IndexDirectory: String
        let HttpPort: UInt16
        let DicomPort: UInt16
        let DicomAet: String
        let DicomCheckCalledAet = false
        let DicomAlwaysAllowStore = true
        let DicomAlwaysAllowEcho = true
        /// Destinations for results can be added over the REST API.
        let DicomModalitiesInDatabase = true
        let RemoteAccessAllowed = false
        let AuthenticationEnabled = true
        let RegisteredUsers: [String: String]
        let StableAge: Int
        let OverwriteInstances: Bool
        let LuaScripts: [String]
        let Plugins: [String]
        let PythonScript: String?
        /// While Lua waits for an answer, Orthanc takes no images; 1.10 knows no other limit for it.
        let HttpTimeout = 10
        let MaximumPatientCount: Int

        init(node: OrthancNode, storage: String) {
            StorageDirectory = storage
            IndexDirectory = storage
            HttpPort = node.httpPort
            DicomPort = node.dicomPort
            DicomAet = node.aet
            RegisteredUsers = [node.user: node.password]
            StableAge = node.stableAge
            OverwriteInstances = node.overwriteInstances
            LuaScripts = node.hook.map { $0.isLua ? [$0.script.path] : [] } ?? []
            PythonScript = node.hook.flatMap { $0.isLua ? nil : $0.script.path }
            Plugins = PythonScript == nil ? [] : OrthancNode.plugins
            MaximumPatientCount = node.maximumPatients
        }
    }
}

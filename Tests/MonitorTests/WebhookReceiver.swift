import Foundation
import Glibc
import Jobs
import Synchronization

/// A receiver in another language, which checks signatures with that language's own library, on a port of its own.
final class WebhookReceiver: Sendable {
    struct Request: Sendable {
        var id: String
        var path: String
        var type: String
        /// How many of the signatures fit the secret.
        var fitting: Int
        var signatures: Int
        /// The difference between its timestamp and the receiver's clock, in seconds.
        var age: Double
        var status: Int
        var body: JSONValue
        var text: String
    }

    private static let program = """
        import base64, hashlib, hmac, http.server, json, os, sys, threading, time

        answers = json.loads(sys.argv[1])
        key = base64.b64decode(sys.argv[2].removeprefix("whsec_"))
        log = open(sys.argv[3], "a")


        class Receiver(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                signed = ("%s.%s." % (self.headers["webhook-id"], self.headers["webhook-timestamp"])).encode() + body
                good = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
                given = self.headers["webhook-signature"].split(" ")
                plan = answers.get(self.path, [])
                status = plan.pop(0) if plan else 200
                log.write(json.dumps({
                    "id": self.headers["webhook-id"], "path": self.path, "type": self.headers["content-type"], "status": status,
                    "fitting": sum(hmac.compare_digest(good, one) for one in given), "signatures": len(given),
                    "age": abs(time.time() - int(self.headers["webhook-timestamp"])), "text": body.decode()}) + "\\n")
                log.flush()
                if "slow" in self.path:
                    time.sleep(3)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                if self.path == "/stalled":
                    self.wfile.flush()
                    time.sleep(5)
                self.wfile.write(b"DOE^JANE" * 20000)

            def do_CONNECT(self):
                log.write(json.dumps({"path": self.path}) + "\\n")
                log.flush()
                self.send_error(501)

            def log_message(self, *_):
                pass


        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                pass


        # Whoever started us is gone, however that came.
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
        server = Server(("127.0.0.1", 0), Receiver)
        print(server.server_address[1], flush=True)
        server.serve_forever()
        """

    let port: Int
    private let process: Mutex<Process>
    private let log: URL

    /// - Parameter answers: by path, the statuses to answer with; 200 afterwards.
    init(in folder: URL, secret: String = "whsec_eA==", answers: [String: [Int]] = [:]) throws {
        let process = Process()
        log = folder.appending(path: "requests-\(UUID().uuidString).jsonl")
        process.executableURL = URL(filePath: ProcessInfo.processInfo.environment["PYTHON"] ?? "/usr/bin/python3")
        let plan = String(decoding: try JSONEncoder().encode(answers), as: UTF8.self)
        process.arguments = ["-c", Self.program, plan, secret, log.path]
        let output = Pipe()
        process.standardOutput = output
        process.standardInput = Pipe()
        // Ours belongs to whoever waits for the end of the tests' output.
        process.standardError = FileHandle.nullDevice
        try process.run()
        let line = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
        guard let port = Int(line.trimmingCharacters(in: .whitespacesAndNewlines)) else { throw URLError(.cannotConnectToHost) }
        self.port = port
        self.process = Mutex(process)
    }

    deinit {
        process.withLock { process in
            // SIGTERM may be ignored: a service's tests do, and children take that over.
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
    }

    /// - Parameter path: with `slow` in it an answer takes 3 s; `/stalled` begins its answer and stops for 5 s.
    func url(_ path: String) -> String { "http://127.0.0.1:\(port)\(path)" }

    /// What has come so far.
    var requests: [Request] {
        guard let text = try? String(contentsOf: log, encoding: .utf8) else { return [] }
        return text.split(separator: "\n").compactMap { line -> Request? in
            guard let value = try? JSONValue(json: Data(line.utf8)) else { return nil }
            let text = value["text"]?.string ?? ""
            return Request(
                id: value["id"]?.string ?? "", path: value["path"]?.string ?? "", type: value["type"]?.string ?? "",
                fitting: Int(value["fitting"]?.integer ?? 0), signatures: Int(value["signatures"]?.integer ?? 0),
                age: Double(value["age"]?.text ?? "") ?? .infinity, status: Int(value["status"]?.integer ?? 0),
                body: (try? JSONValue(json: Data(text.utf8))) ?? .null, text: text)
        }
    }
}

import Accounts
import Foundation
import GRDB
import Jobs
import Pipeline
import Synchronization
import Testing

@testable import Dashboard
@testable import JobStore

extension RunningDashboard {
    func addUser(_ name: String, _ role: AccountRole, password: String = "correct horse \(1)") async throws {
        try await store.addUser(name, role: role, password: PasswordHash(cost: testCost).make(password), at: Date())
    }

    /// - Returns: the answer, and the session's cookie when there is one.
    func signIn(
        _ name: String, password: String = "correct horse \(1)", headers: [String: String] = [:]
    ) async throws -> (answer: Answer, cookie: String) {
        let form = try await openForm("/sign-in", headers: headers)
        let answer = try await send(
            "POST", "/sign-in", headers: headers.merging(["Cookie": form.cookie]) { $1 },
            form: ["csrf": form.token, "name": name, "password": password])
        return (answer, answer.headers["set-cookie"].map { String($0.prefix { $0 != ";" }) } ?? "")
    }

    /// Posts `fields` with the token of the page at `page`.
    func post(_ path: String, _ fields: [String: String] = [:], as cookie: String, page: String = "/account") async throws -> Answer {
        let form = try await openForm(page, cookie: cookie)
        return try await send("POST", path, headers: ["Cookie": cookie], form: fields.merging(["csrf": form.token]) { $1 })
    }
}

@Suite(.timeLimit(.minutes(2)))
struct AccountTests {
    @Test("scrypt is scrypt (RFC 7914), a hash fits its password alone, and one of another cost is replaced")
    func passwords() {
        let known = "$scrypt$ln=10,r=8,p=16$TmFDbA$/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSedmDDaxyevuUqD7m2DYMvfoswGQA"
        // The RFC's salt is shorter than any of ours, so it is checked by the function itself.
        #expect(!PasswordHash().verify("password", against: known))
        let longer = PasswordHash(cost: .init(logN: 10, r: 8, p: 16))
        let made = longer.make("password")
        #expect(made.hasPrefix("$scrypt$ln=10,r=8,p=16$"))
        #expect(made != longer.make("password"))
        #expect(longer.verify("password", against: made) && !longer.verify("Password", against: made))
        #expect(!longer.isOutdated(made) && PasswordHash(cost: testCost).isOutdated(made))
        // The same letters, composed and not.
        let composed = PasswordHash(cost: testCost).make("M\u{FC}ller-12345")
        #expect(PasswordHash(cost: testCost).verify("Mu\u{308}ller-12345", against: composed))
        for broken in ["", "plain", "$scrypt$ln=30,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAA", "$scrypt$ln=10,r=8$AA$AA", "$scrypt$$$", "$$$$"] {
            #expect(!longer.verify("", against: broken), "\(broken)")
        }
    }

    @Test("HMAC-SHA-256 as in RFC 4231")
    func hmac() {
        #expect(
            SecretText.authenticated("what do ya want for nothing?", key: Array("Jefe".utf8))
                == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        #expect(
            SecretText.authenticated(
                "Test Using Larger Than Block-Size Key - Hash Key First", key: [UInt8](repeating: 0xaa, count: 131))
                == "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
    }

    @Test("With a user there is signing in on loopback too; sessions outlive the monitor; the audit knows who came and who failed")
    func signIn() async throws {
        let sample = try SampleLedger()
        _ = try sample.fillHospital(older: 0)
        var cookie = ""
        try await RunningDashboard.serving(sample) { dashboard in
            #expect(try await dashboard.get("/runs").status == 200)
            try await dashboard.addUser("Anna", .operator)
            #expect(try await dashboard.get("/runs").status == 303)
            #expect(try await dashboard.get("/api/v1/runs").status == 401)
        }
        let box = Box("")
        try await RunningDashboard.serving(sample) { dashboard in
            #expect(try await dashboard.signIn("anna", password: "wrong-password").answer.status == 401)
            #expect(try await dashboard.signIn("nobody", password: "my-password-by-mistake").answer.status == 401)
            let (answer, cookie) = try await dashboard.signIn(" ANNA ")
            #expect(answer.status == 303)
            #expect(try await dashboard.get("/runs", headers: ["Cookie": cookie]).text.contains("anna"))
            box.value = cookie
        }
        cookie = box.value
        try await RunningDashboard.serving(sample) { [cookie] dashboard in
            // The port, and so the cookie's name, is another one after this restart; what it holds counts.
            let cookie = cookie.replacing(/^[^=]*/, with: "dcm_session_\(dashboard.port)")
            #expect(try await dashboard.get("/runs", headers: ["Cookie": cookie]).status == 200)
            let entries = try await dashboard.store.audit(AuditFilter(action: "sign-in"), limit: 10).items.map(\.entry)
            #expect(entries.map(\.actor) == ["anna", "unknown", "anna"])
            #expect(entries.map(\.outcome) == [.done, .refused, .refused])
            #expect(entries.allSatisfy { $0.address == "127.0.0.1" })
            // A disabled user is out at once, and so is everything of this user's.
            try await dashboard.store.setDisabled("anna", true, keepsAdmin: true)
            #expect(try await dashboard.get("/runs", headers: ["Cookie": cookie]).status == 303)
            #expect(try await dashboard.signIn("anna").answer.status == 401)
            // The last one who was shut out opens nothing.
            #expect(try await dashboard.get("/runs").status == 303)
        }
    }

    @Test("A user or token is changed together with the audit's entry, or not at all")
    func changesAreAuditedOrNotMade() async throws {
        let sample = try SampleLedger()
        let store = try MonitorStore(folder: sample.folder.appending(path: "state"))
        let (now, lifetime) = (Date(timeIntervalSince1970: 1_000_000), SessionLifetime())
        let entry = AuditEntry(actor: "cli", action: "any")
        @Sendable func token(_ id: String) -> MonitorToken {
            MonitorToken(id: id, name: id, role: .viewer, createdBy: "cli", createdAt: now)
        }
        try await store.addUser("anna", role: .viewer, password: "x", audit: entry, at: now)
        try await store.openSession("s", user: "anna", address: "::1", lifetime: lifetime, at: now)
        try await store.addToken(token("t"), hash: "t", audit: entry)
        #expect(try await store.audit(limit: 10).items.count == 2)

        // As on a disk that is full.
        try await store.write { db in
            try db.execute(sql: "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END")
        }
        let changes: [@Sendable () async throws -> Void] = [
            { try await store.addUser("bob", role: .viewer, password: "x", audit: entry, at: now) },
            { try await store.setRole("anna", .admin, keepsAdmin: false, audit: entry) },
            { try await store.setPassword("anna", "y", audit: entry, at: now) },
            { try await store.setDisabled("anna", true, keepsAdmin: false, audit: entry) },
            { try await store.removeUser("anna", keepsAdmin: false, audit: entry) },
            { try await store.closeSessions(of: "anna") { _ in entry } },
            { try await store.addToken(token("u"), hash: "u", audit: entry) },
            { _ = try await store.revokeToken("t", audit: { _ in entry }, at: now) },
        ]
        for (number, change) in changes.enumerated() {
            await #expect(throws: MonitorStoreError.self, "\(number)") { try await change() }
        }
        let users = try await store.users()
        #expect(users.map(\.name) == ["anna"] && users.first?.role == .viewer && users.first?.isDisabled == false)
        let password = try await store.credentials(of: "anna")?.password
        #expect(password == "x")
        #expect(try await store.session("s", lifetime: lifetime, at: now) != nil)
        #expect(try await store.tokens().map(\.id) == ["t"])
        #expect(try await store.token(hash: "t", at: now) != nil)
    }

    @Test("A session ends when it was idle or old, and with the token that it was opened by")
    func sessionEnds() async throws {
        let sample = try SampleLedger()
        let store = try MonitorStore(folder: sample.folder.appending(path: "state"))
        let lifetime = SessionLifetime(idle: 100, absolute: 1000)
        let start = Date(timeIntervalSince1970: 1_000_000)
        try await store.addUser("anna", role: .viewer, password: "x", at: start)
        try await store.openSession("s", user: "anna", address: "::1", lifetime: lifetime, at: start)
        for second in stride(from: 0.0, to: 990, by: 90) {
            #expect(try await store.session("s", lifetime: lifetime, at: start + second)?.role == .viewer, "\(second)")
        }
        #expect(try await store.session("s", lifetime: lifetime, at: start + 1000) == nil)
        try await store.openSession("t", user: nil, credential: "c", address: "::1", lifetime: lifetime, at: start)
        #expect(try await store.session("t", lifetime: lifetime, at: start + 99)?.user == nil)
        #expect(try await store.session("t", lifetime: lifetime, at: start + 250) == nil)

        let box = Box("")
        try await RunningDashboard.serving(sample, token: "first-token") { dashboard in
            let form = try await dashboard.openForm("/sign-in")
            let answer = try await dashboard.send(
                "POST", "/sign-in", headers: ["Cookie": form.cookie], form: ["csrf": form.token, "token": "first-token"])
            box.value = answer.headers["set-cookie"].map { String($0.prefix { $0 != ";" }) } ?? ""
            #expect(try await dashboard.get("/runs", headers: ["Cookie": box.value]).status == 200)
        }
        let cookie = box.value
        for (token, status) in [("first-token", 200), ("second-token", 303)] {
            try await RunningDashboard.serving(sample, token: token) { dashboard in
                let cookie = cookie.replacing(/^[^=]*/, with: "dcm_session_\(dashboard.port)")
                let answer = try await dashboard.get("/runs", headers: ["Cookie": cookie])
                #expect(answer.status == status)
            }
        }
    }

    @Test("A password is changed by who knows it; other browsers are signed out, all of them on request")
    func passwordChange() async throws {
        let sample = try SampleLedger()
        try await RunningDashboard.serving(sample) { dashboard in
            try await dashboard.addUser("anna", .viewer)
            let here = try await dashboard.signIn("anna").cookie
            let there = try await dashboard.signIn("anna").cookie
            let old = "correct horse 1"
            for (fields, words) in [
                (["current": "wrong", "password": "a new password", "again": "a new password"], "not your present password"),
                (["current": old, "password": "short", "again": "short"], "at least 10 characters"),
                (["current": old, "password": "anna-anna-12", "again": "anna-anna-12"], "does not contain"),
                (["current": old, "password": "a new password", "again": "another password"], "differ"),
            ] {
                let answer = try await dashboard.post("/account/password", fields, as: here)
                #expect(answer.status == 422 && answer.text.contains(words), "\(words)")
            }
            let changed = try await dashboard.post(
                "/account/password", ["current": old, "password": "a new password", "again": "a new password"], as: here)
            #expect(changed.status == 303)
            #expect(try await dashboard.get("/runs", headers: ["Cookie": here]).status == 200)
            #expect(try await dashboard.get("/runs", headers: ["Cookie": there]).status == 303)
            #expect(try await dashboard.signIn("anna").answer.status == 401)
            let again = try await dashboard.signIn("anna", password: "a new password").cookie
            #expect(try await dashboard.post("/account/sign-out", as: again).status == 303)
            #expect(try await dashboard.get("/runs", headers: ["Cookie": again]).status == 303)
            #expect(try await dashboard.get("/runs", headers: ["Cookie": here]).status == 303)
        }
    }

    @Test("Admins manage users and tokens on a page, and cannot lock themselves all out")
    func administration() async throws {
        let sample = try SampleLedger()
        try await RunningDashboard.serving(sample) { dashboard in
            try await dashboard.addUser("root", .admin)
            let cookie = try await dashboard.signIn("root").cookie
            func post(_ path: String, _ fields: [String: String] = [:]) async throws -> Answer {
                try await dashboard.post(path, fields, as: cookie, page: "/users")
            }
            #expect(try await post("/users", ["name": "Bea", "role": "viewer", "password": "another horse 2"]).status == 303)
            for (fields, words) in [
                (["name": "bea", "role": "viewer", "password": "another horse 2"], "already"),
                (["name": "<b>", "role": "viewer", "password": "another horse 2"], "a-z, 0-9"),
                (["name": "api", "role": "viewer", "password": "another horse 2"], "of the monitor&#39;s own"),
                (["name": "cleo", "role": "king", "password": "another horse 2"], "viewer, operator or admin"),
                (["name": "cleo", "role": "viewer", "password": "short"], "at least 10"),
            ] {
                let answer = try await post("/users", fields)
                #expect(answer.status == 422 && answer.text.contains(words), "\(words)")
            }
            let bea = try await dashboard.signIn("bea", password: "another horse 2").cookie
            #expect(try await dashboard.get("/audit", headers: ["Cookie": bea]).status == 403)
            #expect(try await post("/users/bea/role", ["role": "operator"]).status == 303)
            // Counts at once, for a session that is open too.
            #expect(try await dashboard.get("/audit", headers: ["Cookie": bea]).status == 200)
            #expect(try await post("/users/bea/password", ["password": "yet another 34"]).status == 303)
            #expect(try await dashboard.get("/runs", headers: ["Cookie": bea]).status == 303)
            for path in ["/users/root/disable", "/users/root/remove"] {
                let answer = try await post(path)
                #expect(answer.status == 422 && answer.text.contains("only admin"), "\(path)")
            }
            #expect(try await post("/users/root/role", ["role": "viewer"]).status == 422)
            #expect(try await post("/users/nobody/remove").status == 404)

            let made = try await post("/tokens", ["name": "export", "role": "viewer", "days": "30"])
            let token = try #require(made.text.firstMatch(of: /dcm_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}/)).output
            let page = try await dashboard.get("/users", headers: ["Cookie": cookie]).text
            #expect(page.contains("export") && !page.contains(token))
            let bearer = ["Authorization": "Bearer \(token)"]
            #expect(try await dashboard.get("/api/v1/runs", headers: bearer).status == 200)
            #expect(try await dashboard.send("POST", "/api/v1/channels/default/pause", headers: bearer).status == 403)
            #expect(try await post("/tokens/\(token.dropFirst(4).prefix(8))/revoke").status == 303)
            #expect(try await dashboard.get("/api/v1/runs", headers: bearer).status == 401)
            #expect(try await post("/tokens", ["name": "export", "role": "viewer", "days": "0"]).status == 422)

            let actions = try await dashboard.store.audit(limit: 50).items.map(\.entry).filter { $0.actor == "root" && $0.outcome == .done }
            #expect(
                actions.map(\.action).reversed() == [
                    "sign-in", "add-user", "set-role", "set-password", "add-token", "revoke-token",
                ])
            // Passwords and tokens are nowhere in the file.
            let file = try Data(contentsOf: sample.folder.appending(path: "state/monitor.sqlite"))
            let log = (try? Data(contentsOf: sample.folder.appending(path: "state/monitor.sqlite-wal"))) ?? Data()
            for secret in [String(token), "another horse 2", "yet another 34", cookie.split(separator: "=").last.map(String.init) ?? "?"] {
                #expect(file.range(of: Data(secret.utf8)) == nil && log.range(of: Data(secret.utf8)) == nil)
            }
            let rights = try FileManager.default.attributesOfItem(atPath: sample.folder.appending(path: "state/monitor.sqlite").path)
            #expect(rights[.posixPermissions] as? Int == 0o600)
        }
    }

    @Test("Guessing at an account is slowed down from everywhere, and the person himself gets in after a minute at most")
    func accountThrottle() async throws {
        let sample = try SampleLedger()
        let proxy = ProxySignIn(header: "X-Remote-User", addresses: [try #require(AddressRange("127.0.0.1"))])
        try await RunningDashboard.serving(sample, proxy: proxy) { dashboard in
            try await dashboard.addUser("anna", .viewer)
            var statuses: [Int] = []
            for number in 0..<40 where statuses.last != 429 {
                // Each from an address of its own.
                statuses.append(
                    try await dashboard.signIn("anna", password: "guess \(number)", headers: ["X-Forwarded-For": "10.1.0.\(number)"])
                        .answer.status)
            }
            #expect(statuses.prefix(20) == ArraySlice(repeating: 401, count: 20))
            #expect(statuses.last == 429)
        }
    }

    @Test("Who guesses at an account from elsewhere does not keep out its owner, who is signed in from his place")
    func familiar() async throws {
        let sample = try SampleLedger()
        // It signs nobody in, and says where requests come from.
        let proxy = ProxySignIn(header: nil, addresses: [try #require(AddressRange("127.0.0.1"))])
        try await RunningDashboard.serving(sample, proxy: proxy) { dashboard in
            #expect(try await dashboard.get("/runs", headers: ["X-Remote-User": "anna"]).status == 200)
            try await dashboard.addUser("anna", .viewer)
            #expect(try await dashboard.get("/runs", headers: ["X-Remote-User": "anna"]).status == 303)
            let home = ["X-Forwarded-For": "10.2.0.1"]
            #expect(try await dashboard.signIn("anna", headers: home).answer.status == 303)
            // The first pause is a second: on a busy machine it may be over before the next one asks, who then gets in, and all begins anew.
            var isKeptOut = false
            for round in 0..<10 where !isKeptOut {
                var last = 0
                for number in 0..<40 where last != 429 {
                    last = try await dashboard.signIn(
                        "anna", password: "guess \(number)", headers: ["X-Forwarded-For": "10.1.\(round).\(number)"]
                    ).answer.status
                }
                #expect(last == 429)
                isKeptOut = try await dashboard.signIn("anna", headers: ["X-Forwarded-For": "10.3.0.\(round)"]).answer.status == 429
            }
            #expect(isKeptOut)
            #expect(try await dashboard.signIn("anna", headers: home).answer.status == 303)
        }
    }

    @Test("Many guesses at once are no more than many one by one")
    func burst() async throws {
        let checks = PasswordCheck(cost: testCost)
        let throttle = SignInThrottle()
        let address = SignInThrottle.Subject.client("10.0.0.7")
        let hash = try await checks.make("right")
        let tried = try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<25 {
                group.addTask {
                    try await checks.verify(
                        "wrong", against: hash, unless: { throttle.wait(for: address, at: .distantPast) != nil },
                        countWrong: { for _ in 0..<10 { throttle.failed(address, at: .distantPast) } }) != nil
                }
            }
            return try await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(tried == 1)
        #expect(SignInThrottle.Subject.client("2001:db8:1:2::7") == .client("2001:db8:1:2:ffff::1"))
        #expect(SignInThrottle.Subject.client("2001:db8:1:2::7") != .client("2001:db8:1:3::7"))
        #expect(SignInThrottle.Subject.client("10.0.0.7") != .client("10.0.0.8"))
    }

    @Test("Where nothing can be written, who is signed in goes on reading, and what cannot be done says why")
    func full() async throws {
        let sample = try SampleLedger()
        let hospital = try sample.fillHospital(older: 0)
        try await RunningDashboard.serving(sample) { dashboard in
            try await dashboard.addUser("anna", .operator)
            let (secret, cookie) = ("dcm_12345678_x", String(repeating: "c", count: 43))
            let before = Date().addingTimeInterval(-120)
            try await dashboard.store.openSession(
                SecretText.digest(cookie), user: "anna", address: "::1", lifetime: SessionLifetime(), at: before)
            try await dashboard.store.addToken(
                MonitorToken(id: "12345678", name: "t", role: .viewer, createdBy: "anna", createdAt: before),
                hash: SecretText.digest(secret))
            let form = try await dashboard.openForm("/sign-in")
            try await dashboard.store.database.writeWithoutTransaction { try $0.execute(sql: "PRAGMA query_only = ON") }
            let signedIn = ["Cookie": "dcm_session_\(dashboard.port)=\(cookie)"]
            #expect(try await dashboard.get("/runs", headers: signedIn).status == 200)
            #expect(try await dashboard.get("/api/v1/runs", headers: ["Authorization": "Bearer \(secret)"]).status == 200)
            let refused = try await dashboard.send(
                "POST", "/sign-in", headers: ["Cookie": form.cookie],
                form: ["csrf": form.token, "name": "anna", "password": "correct horse 1"])
            #expect(refused.status == 503)
            #expect(refused.text.contains("monitor.sqlite cannot be used"))
            #expect(!refused.text.contains("INSERT") && !refused.text.contains(sample.folder.path))
            let page = try await dashboard.openForm("/runs/\(hospital.failed)", cookie: signedIn["Cookie"])
            let unrecorded = try await dashboard.send(
                "POST", "/runs/\(hospital.failed)/retry", headers: signedIn, form: ["csrf": page.token])
            // What cannot be recorded is not done.
            #expect(unrecorded.status == 503)
            #expect(dashboard.commands.sent.isEmpty)
        }
    }

    @Test("A file that is no database is said so, with the cure")
    func damaged() async throws {
        let sample = try SampleLedger()
        let folder = sample.folder.appending(path: "broken")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try Data(repeating: 0x41, count: 8192).write(to: MonitorStore.file(in: folder))
        let error = #expect(throws: MonitorStoreError.self) { try MonitorStore(folder: folder) }
        #expect(error?.code == .unusable && error?.message.contains("backup") == true, "\(error?.message ?? "")")
        // A hash that no scrypt can be made of fits nothing, and stops nobody.
        let hash = "$scrypt$ln=17,r=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$" + String(repeating: "A", count: 43)
        #expect(!PasswordHash(cost: testCost).verify("x", against: hash))
    }

    @Test("Signed in by a proxy nobody signs out who came with MONITOR_TOKEN")
    func others() async throws {
        let sample = try SampleLedger()
        let proxy = ProxySignIn(header: "X-Remote-User", addresses: [try #require(AddressRange("127.0.0.1"))])
        try await RunningDashboard.serving(sample, token: "first-token", proxy: proxy) { dashboard in
            func signInWithToken() async throws -> String {
                let form = try await dashboard.openForm("/sign-in")
                let answer = try await dashboard.send(
                    "POST", "/sign-in", headers: ["Cookie": form.cookie], form: ["csrf": form.token, "token": "first-token"])
                return answer.headers["set-cookie"].map { String($0.prefix { $0 != ";" }) } ?? ""
            }
            try await dashboard.addUser("bob", .viewer)
            let operators = try await signInWithToken()
            let bob = try await dashboard.signIn("bob").cookie
            let form = try await dashboard.openForm("/account", cookie: bob)
            let answer = try await dashboard.send(
                "POST", "/account/sign-out", headers: ["Cookie": bob, "X-Remote-User": "bob"], form: ["csrf": form.token])
            #expect(answer.status == 403)
            #expect(try await dashboard.get("/runs", headers: ["Cookie": operators]).status == 200)
        }
    }

    @Test("A proxy's header counts from the proxy's address alone")
    func proxy() async throws {
        let sample = try SampleLedger()
        let here = try #require(AddressRange("127.0.0.0/8"))
        let elsewhere = try #require(AddressRange("10.0.0.0/8"))
        var proxy = ProxySignIn(
            header: "X-Remote-User", rolesHeader: "X-Groups", roles: ["it": .admin, "radiology": .operator], addresses: [elsewhere])
        try await RunningDashboard.serving(sample, proxy: proxy) { dashboard in
            let page = try await dashboard.get("/runs", headers: ["X-Remote-User": "anna"])
            #expect(page.status == 303)
            #expect(try await dashboard.get("/api/v1/runs", headers: ["X-Remote-User": "anna", "X-Groups": "it"]).status == 401)
        }
        proxy.addresses.append(here)
        try await RunningDashboard.serving(sample, proxy: proxy) { dashboard in
            #expect(try await dashboard.get("/runs").status == 303)
            for (headers, status) in [
                (["X-Remote-User": "anna"], 403), (["X-Remote-User": "anna", "X-Groups": "users, admin"], 403),
                (["X-Remote-User": "anna", "X-Groups": "users, radiology"], 200), (["X-Remote-User": "anna", "X-Groups": "it"], 200),
                (["X-Remote-User": "<b>", "X-Groups": "it"], 403),
            ] {
                #expect(try await dashboard.get("/audit", headers: headers).status == status, "\(headers)")
            }
            // A user of ours has the role that we gave; one who is disabled stays outside.
            try await dashboard.addUser("carl", .operator)
            #expect(try await dashboard.get("/audit", headers: ["X-Remote-User": "Carl"]).status == 200)
            try await dashboard.store.setDisabled("carl", true, keepsAdmin: true)
            #expect(try await dashboard.get("/audit", headers: ["X-Remote-User": "carl", "X-Groups": "it"]).status == 403)
            // Forms need their token as everywhere: the browser sends the proxy's cookie by itself.
            let anna = ["X-Remote-User": "anna", "X-Groups": "it"]
            #expect(try await dashboard.send("POST", "/channels/default/pause", headers: anna, form: [:]).status == 403)
            #expect(try await dashboard.send("POST", "/api/v1/channels/default/pause", headers: anna).status == 403)
            let form = try await dashboard.openForm("/users", headers: anna)
            let paused = try await dashboard.send(
                "POST", "/channels/default/pause",
                headers: anna.merging(["Cookie": form.cookie, "X-Forwarded-For": "198.51.100.7, 10.0.0.4"]) { $1 },
                form: ["csrf": form.token])
            #expect(paused.status == 303)
            let entry = try #require(try await dashboard.store.audit(limit: 1).items.first).entry
            #expect(entry.actor == "anna" && entry.role == .admin && entry.address == "198.51.100.7" && entry.outcome == .sent)
            #expect(dashboard.commands.sent.map(\.actor) == ["anna"])
        }
    }

    @Test(
        "Addresses",
        arguments: [
            ("10.0.0.7", "10.0.0.7", true), ("10.0.0.7", "10.0.0.8", false), ("10.0.0.0/9", "10.127.1.1", true),
            ("10.0.0.0/9", "10.128.0.1", false), ("0.0.0.0/0", "1.2.3.4", true), ("::1", "::1", true), ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false), ("10.0.0.7", "::ffff:10.0.0.7", true), ("10.0.0.7", "::1", false), ("10.0.0.7", "x", false),
        ])
    func ranges(range: String, address: String, isIn: Bool) throws {
        let range = try #require(AddressRange(range))
        #expect(range.contains(address) == isIn)
    }

    @Test("No addresses", arguments: ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/-1", "localhost", "10.0.0.0/8/8", "::/129"])
    func noRange(text: String) {
        #expect(AddressRange(text) == nil)
    }

    @Test("Accounts and the audit can be seen to while there is no ledger")
    func noLedger() async throws {
        let sample = try SampleLedger()
        try await RunningDashboard.serving(sample, path: "/nowhere/ledger.sqlite") { dashboard in
            try await dashboard.addUser("root", .admin)
            let cookie = try await dashboard.signIn("root").cookie
            for path in ["/account", "/users", "/audit"] {
                #expect(try await dashboard.get(path, headers: ["Cookie": cookie]).status == 200, "\(path)")
            }
            #expect(try await dashboard.get("/runs", headers: ["Cookie": cookie]).status == 503)
        }
    }

    @Test("Behind https the cookie is this host's alone and the browser told to stay there")
    func secure() async throws {
        let sample = try SampleLedger()
        try await RunningDashboard.serving(sample, token: "t") { dashboard in
            let page = try await dashboard.get("/sign-in", headers: ["X-Forwarded-Proto": "https"])
            let cookie = try #require(page.headers["set-cookie"])
            #expect(cookie.hasPrefix("__Host-dcm_session_") && cookie.contains("Secure") && cookie.contains("HttpOnly"))
            #expect(page.headers["strict-transport-security"] == "max-age=31536000")
            #expect(try await dashboard.get("/sign-in").headers["strict-transport-security"] == nil)
        }
    }
}

/// Carries a value out of a closure that runs once.
final class Box<Value: Sendable>: Sendable {
    private let stored: Mutex<Value>

    init(_ value: Value) { stored = Mutex(value) }

    var value: Value {
        get { stored.withLock { $0 } }
        set { stored.withLock { $0 = newValue } }
    }
}

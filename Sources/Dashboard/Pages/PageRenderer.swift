import Foundation
import HTTPTypes
import Hummingbird
import JobStore
import Mustache

/// Makes pages of the templates that belong to this library.
struct PageRenderer: Sendable {
    private static let contentType = "DCMHTML"
    private static let assets = ["monitor.css", "monitor.js", "icon.svg"]

    private let library: MustacheLibrary
    let files: [String: Asset]

    struct Asset: Sendable {
        var bytes: [UInt8]
        var type: String
        /// Changes with the content, so that browsers may keep the file for ever.
        var version: String
    }

    /// - Throws: `DashboardError` when the templates are not where the build put them.
    init() throws {
        MustacheContentTypes.register(HTMLText(), named: Self.contentType)
        let folder = Bundle.module.bundleURL.appending(path: "Resources")
        do {
            var library = MustacheLibrary()
            for file in try FileManager.default.contentsOfDirectory(
                at: folder.appending(path: "templates"), includingPropertiesForKeys: nil)
            where file.pathExtension == "mustache" {
                let text = try String(contentsOf: file, encoding: .utf8)
                try library.register("{{% CONTENT_TYPE:\(Self.contentType)}}" + text, named: file.deletingPathExtension().lastPathComponent)
            }
            self.library = library
            files = try Dictionary(
                uniqueKeysWithValues: Self.assets.map { name in
                    let bytes = [UInt8](try Data(contentsOf: folder.appending(path: name)))
                    return (name, Asset(bytes: bytes, type: Self.type(name), version: Self.version(bytes)))
                })
        } catch {
            throw DashboardError(
                code: .resources,
                message: "The monitor's pages cannot be read from \(folder.path): \(error). Keep that folder beside the executable.")
        }
    }

    /// One page: `template` with `model`, inside the frame that all pages share.
    func response(
        _ template: String, _ model: Any, title: String, _ context: DashboardContext, frame: PageFrame = PageFrame(),
        status: HTTPResponse.Status = .ok
    ) throws -> Response {
        var frame = frame
        frame.title = title
        frame.csrf = context.session?.formToken ?? ""
        frame.isKnown = frame.isKnown || context.identity != nil
        frame.account = context.identity.map { PageFrame.Account($0) }
        frame.may = PageFrame.May(context.identity)
        frame.styles = asset("monitor.css")
        frame.script = asset("monitor.js")
        frame.icon = asset("icon.svg")
        let page = PageModel(page: model, csrf: frame.csrf, may: frame.may)
        guard let body = library.render(PageFields(page), withTemplate: template) else {
            throw DashboardError(code: .resources, message: "The template '\(template)' is missing.")
        }
        frame.body = body
        guard let html = library.render(PageFields(frame), withTemplate: "frame") else {
            throw DashboardError(code: .resources, message: "The template 'frame' is missing.")
        }
        return .text(html, type: "text/html; charset=utf-8", status: status)
    }

    /// For errors: nothing here may fail again.
    func problem(_ problem: Problem, _ context: DashboardContext) -> Response {
        if problem.status == .seeOther { return Response(status: .seeOther, headers: problem.headers) }
        var response =
            (try? response("problem", problem, title: problem.title, context, frame: Self.frame(of: problem), status: problem.status))
            ?? .text("\(problem.title): \(problem.detail)\n", status: problem.status)
        for field in problem.headers { response.headers[field.name] = field.value }
        // Whoever waits for the router or the broker need not press a key.
        if problem.status == .serviceUnavailable, let refresh = HTTPField.Name("Refresh") { response.headers[refresh] = "5" }
        return response
    }

    /// Whoever followed a link to what is not there wants to go on. Who has to sign in first has nowhere to go.
    private static func frame(of problem: Problem) -> PageFrame {
        var frame = PageFrame()
        frame.isKnown = ![.unauthorized, .tooManyRequests].contains(problem.status)
        if frame.isKnown { frame.links = PageFrame.links(current: nil) }
        return frame
    }

    private func asset(_ name: String) -> String { "/assets/\(name)?v=\(files[name]?.version ?? "")" }

    private static func type(_ name: String) -> String {
        switch name.split(separator: ".").last {
        case "css": "text/css; charset=utf-8"
        case "js": "text/javascript; charset=utf-8"
        default: "image/svg+xml"
        }
    }

    /// FNV-1a: no secret, only a name for the content.
    private static func version(_ bytes: [UInt8]) -> String {
        String(bytes.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }, radix: 36)
    }
}

/// What a template sees: `{{page.…}}`, and the token for its forms.
private struct PageModel {
    var page: Any
    var csrf: String
    var may: PageFrame.May
}

/// What all pages share.
struct PageFrame {
    struct Link {
        var title: String
        var url: String
        var isCurrent: Bool
        /// Shown beside the title when there is something to look at.
        var count: String?
    }

    /// Who is looking, and the pages that are not everybody's.
    struct Account {
        var name: String
        var role: String
        var links: [Link]
        var canSignOut: Bool

        init(_ identity: Identity) {
            name = identity.actor
            role = identity.role.rawValue
            links = [Link(title: "Account", url: "/account", isCurrent: false)]
            if identity.may(.operator) { links.append(Link(title: "Audit", url: "/audit", isCurrent: false)) }
            if identity.may(.admin) {
                links.append(Link(title: "Users and tokens", url: "/users", isCurrent: false))
                links.append(Link(title: "Webhooks", url: "/webhooks", isCurrent: false))
            }
            canSignOut = identity.means == .session
        }
    }

    /// What the pages offer; what is allowed is decided for each request.
    struct May {
        var operate: Bool
        var admin: Bool

        init(_ identity: Identity?) {
            operate = identity?.may(.operator) == true
            admin = identity?.may(.admin) == true
        }
    }

    struct Alarm {
        var isError: Bool
        var text: String
        var url: String?
        /// Already HTML.
        var since: String?

        init(isError: Bool, text: String, url: String? = nil, since: Date? = nil) {
            self.isError = isError
            self.text = text
            self.url = url
            self.since = since.map { Markup.time($0) }
        }
    }

    /// The pages of the menu.
    ///
    /// - Parameters:
    ///   - current: the address of the one that is shown.
    ///   - troubled: services that cannot be used.
    ///   - dead: dead letters.
    static func links(current: String?, troubled: Int = 0, dead: Int = 0) -> [Link] {
        func link(_ title: String, _ url: String, _ count: Int = 0) -> Link {
            Link(title: title, url: url, isCurrent: current == url, count: count > 0 ? Display.number(count) : nil)
        }
        return [
            link("Overview", "/"), link("Runs", "/runs"), link("Workers", "/workers"), link("Queues", "/queues"),
            link("Services", "/services", troubled), link("Dead letters", "/dead", dead), link("Events", "/events"),
            link("Bulk", "/bulk"),
        ]
    }

    var title = ""
    var body = ""
    var csrf = ""
    var account: Account?
    var may = May(nil)
    var isKnown = false
    var styles = ""
    var script = ""
    var icon = ""
    var links: [Link] = []
    var alarms: [Alarm] = []
    var notice: String?
    /// Already HTML: when the page was made.
    var asOf: String?
    /// The newest fact that the page knows, and the run that it is about: where its live updates begin.
    var fact: String?
    var run: String?
}

/// Escapes scalar by scalar. A quotation mark with a combining accent after it is one character to Swift and still ends
/// an attribute for a browser.
struct HTMLText: MustacheContentType {
    func escapeText(_ text: String) -> String { Self.escape(text) }

    static func escape(_ text: String) -> String {
        if text.utf8.allSatisfy(isPlain) { return text }
        var escaped = String.UnicodeScalarView()
        escaped.reserveCapacity(text.unicodeScalars.count)
        for scalar in text.unicodeScalars {
            switch scalar {
            case "<": escaped.append(contentsOf: "&lt;".unicodeScalars)
            case ">": escaped.append(contentsOf: "&gt;".unicodeScalars)
            case "&": escaped.append(contentsOf: "&amp;".unicodeScalars)
            case "\"": escaped.append(contentsOf: "&quot;".unicodeScalars)
            case "'": escaped.append(contentsOf: "&#39;".unicodeScalars)
            case "\t", "\n", "\r": escaped.append(scalar)
            // Control characters and those that turn the direction of the text around them.
            case "\u{0}"..."\u{1F}", "\u{7F}"..."\u{9F}", "\u{202A}"..."\u{202E}", "\u{2066}"..."\u{2069}": escaped.append("\u{FFFD}")
            default: escaped.append(scalar)
            }
        }
        return String(escaped)
    }

    /// Whether it is a character of ASCII that stays as it is; nearly all that pages show are.
    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x20...0x21, 0x23...0x25, 0x28...0x3B, 0x3D, 0x3F...0x7E, 0x09, 0x0A, 0x0D: true
        default: false
        }
    }
}

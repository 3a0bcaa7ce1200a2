"""The words by which codes are known, in the languages of the mails.

A table has a line for each language: words and phrases, set apart by commas, as `Words` takes them.
"""

from __future__ import annotations

from typing import Final

from sessiond.core.finding.folding import Words

# What is called a code, as such or with a word of PROOF or OTHER beside it.
CODE: Final = Words("""
    en: *code, pin, pincode, pin number, verification:, token, passphrase, digits, digit number, number to
    de: *code, *kode, *pin code, bestätigungsnummer, prüfziffer, prüfnummer, zahlenfolge, ziffern, ziffernfolge
    de: stellige zahl, kennwort, passwort
    fr: *code, mot de passe, chiffres
    es: código, clave, contraseña, token, dígitos, cifras
    pt: código, senha, palavra passe, token, dígitos
    it: codice, password, cifre
    nl: *code, wachtwoord, cijfers
    pl: kod, kodu, kodem, hasło, cyfr, cyfry
    tr: kod, kodu, kodun, kodunu, kodunuz, kodunuzu, kodunuzdur, kodudur, kodum, şifre, şifresi, şifreniz, parola
    ru: код, кода, коду, кодом, пароль, пин код, цифры, цифр
    uk: код, коду, кодом, пароль
    sv: *kod, *koden, kodnummer, lösenord, siffror, siffrorna
    da: *kode, *koden, kodeord, adgangskode, passord
    fi: *koodi, *koodisi, *koodin, *koodilla, *koodia, tunnusluku, salasana
    cs: kód, kódem, kódu, heslo
    hu: *kód, *kódod, *kódja, *kódot, jelszó
    ro: cod, codul
    hr: kod, kôd, koda
    el: κωδικός, κωδικό, κωδικού
    id: kode, kod, sandi
    vi: mã số
    th: รหัส
    hi: कोड
    he: קוד
    fa: کد, رمز
    zh: 代码, 代碼, 密码, 密碼, 编码, 口令, 位数字, 位數字
    ja: コード, パスワード, 暗証番号, 桁の数字, 桁の番号
    ko: 코드, 비밀번호, 자리 숫자, 자리 번호
    ar: رمز, كود, الكود, الرمز, كلمة
""")

# What is called by a name that only a code to be typed in has.
CODE_ITSELF: Final = Words("""
    en: otp, otc, totp, passcode*, one time password, one time pass code, one time pin, 2fa code, mfa code, login code
    de: mtan, smstan, tan, einmalpasswort, einmalkennwort, einmalcode, bestätigungscode, verifizierungscode
    de: sicherheitscode, anmeldecode, zugangscode, freischaltcode, einmal pin, aktivierungscode
    fr: mot de passe à usage unique, mot de passe unique, mot de passe temporaire, code à usage unique
    es: contraseña de un solo uso, clave dinámica, clave temporal, clave de un solo uso, contraseña temporal
    pt: senha de uso único, senha descartável, senha temporária, código de uso único, palavra passe de uso único
    it: password monouso, password temporanea, password usa e getta, codice usa e getta
    nl: eenmalig wachtwoord, verificatiecode, beveiligingscode, inlogcode, bevestigingscode, toegangscode
    pl: hasło jednorazowe, jednorazowe hasło, hasła jednorazowego
    tr: tek kullanımlık şifre*, tek seferlik şifre*, onay kodu*, doğrulama kodu*, giriş kodu*, güvenlik kodu*
    ru: одноразовый пароль, одноразового пароля, код подтверждения, проверочный код
    sv: engångslösenord*, engångskod*, verifieringskod*, säkerhetskod*, bekräftelsekod*, inloggningskod*
    da: engangskode*, engangsadgangskode, engangskodeord, bekræftelseskode*, bekreftelseskode*, engangspassord
    da: sikkerhedskode*, sikkerhetskode*, godkendelseskode*, verifikationskode*, verificeringskode*, innloggingskode*
    fi: vahvistuskoodi*, kertakäyttökoodi*, turvakoodi*, kirjautumiskoodi*, kertakäyttösalasana, varmennuskoodi*
    cs: jednorázové heslo, ověřovací kód*, overovací kód*, bezpečnostní kód, potvrzovací kód
    hu: ellenőrző kód*, megerősítő kód*, hitelesítő kód*, egyszer használatos jelszó, biztonsági kód*
    vi: mã xác minh, mã xác thực, mã xác nhận, mã otp, mã đăng nhập, mã bảo mật
    th: รหัสยืนยัน, รหัสผ่านครั้งเดียว
    hi: ओटीपी, सत्यापन कोड
    zh: 验证码, 驗證碼, 校验码, 校驗碼, 动态码, 动态密码, 动态口令, 確認碼, 确认码, 激活码, 安全码, 安全碼, 认证码
    zh: 認證碼, 動態密碼, 動態碼, 一次性密码, 一次性密碼, 登录码, 登入碼, 短信码, 随机码, 口令码
    ja: 認証コード, 確認コード, 検証コード, 認証番号, 確認番号, ワンタイム, パスコード, 認証キー, セキュリティコード
    ja: セキュリティ コード, ログインコード, 本人確認コード
    ko: 인증번호, 인증 번호, 인증코드, 인증 코드, 확인 코드, 확인코드, 보안 코드, 보안코드, 일회용, 로그인 코드
    ko: 확인번호
    ar: رمز التحقق, رمز التأكيد, رمز الدخول, كود التحقق, رمز الأمان, كلمة مرور لمرة واحدة, رقم التحقق, رمز التفعيل
""")

# What a code is for when it is to be typed in.
PROOF: Final = Words("""
    en: verif*, confirm*, authenti*, authoriz*, authoris*, security, secure, login, log in, logging in, logon, log on
    en: sign in, signin, signing in, sign on, sign up, signup, one time, single use, two factor, 2 factor, two step
    en: 2 step, 2fa, mfa, multi factor, access, activation, activate, temporary, passwordless, otp, reset, recovery
    en: unlock, identity, registration, register*, device, pairing
    de: bestätig*, verifi*, sicherheit*, anmeld*, einmal*, login*, zugang*, zugriff*, freischalt*, aktivier*, prüf*
    de: freigabe*, identifi*, autoris*, transaktion*, wiederherstell*, kontroll*, validier*, kopplung*, web, sms
    de: email, mail, e mail, zahlen, ziffern, pin, tan, gerät*, app, authentifizier*, zwei faktor*, registrier*
    de: einlog*, anzumelden, einzuloggen, legitimation*, identität*, entsperr*, einzugeben
    fr: vérif*, confirm*, authentif*, sécurité, connexion, connect*, usage unique, temporaire, accès, activation
    fr: identif*, double facteur, valid*, réinitialis*, inscription
    es: verific*, confirm*, autentic*, autenti*, seguridad, acceso, acceder, iniciar sesión, inicio de sesión
    es: un solo uso, único uso, activa*, temporal, valida*, identi*, dos pasos, doble factor, dos factores, restablec*
    es: dinámica
    pt: verific*, confirm*, autentic*, segurança, acesso, entrar, login, uso único, ativa*, valida*, temporári*
    pt: duas etapas, dois fatores, redefin*, cadastro
    it: verific*, conferm*, autentic*, sicurezza, accesso, accedere, monouso, attiva*, temporane*, due fattori
    it: due passaggi, valida*, uso singolo, registrazione, identit*
    nl: verific*, verifi*, in te loggen, bevestig*, beveilig*, inlog*, eenmalig*, toegang*, activ*, aanmeld*
    nl: controle*, autoris*, machtig*, herstel*, registr*, tweestaps*
    pl: weryfik*, potwierdz*, autoryz*, uwierzyteln*, bezpieczeństw*, logowa*, zalogow*, jednoraz*, dostęp*, aktywac*
    pl: dwuskładnik*, dwuetap*, rejestrac*
    tr: doğrula*, onay*, güvenlik, giriş, tek kullanım*, tek seferlik, aktivasyon, erişim, iki adım*, iki faktör*
    tr: oturum*, kimlik
    ru: подтвержд*, провероч*, проверк*, верифик*, безопасн*, вход*, войти, авториз*, аутентиф*, однораз*, доступ*
    ru: актив*, двухфактор*, двухэтап*, регистрац*
    uk: підтвердж*, перевір*, одноразов*, вхід*, безпек*, увійти
    sv: verifier*, bekräft*, säkerhet*, inlogg*, logga in, engång*, åtkomst*, aktiver*, godkänn*, kontroll*
    sv: återställ*, identif*, tvåfaktor*, tvåsteg*
    da: bekræft*, bekreft*, engang*, sikkerhed*, sikkerhet*, log ind, logge ind, logg inn, logge inn, pålogging*
    da: innlogging*, verificer*, verifiser*, verifikation*, godkend*, godkjenn*, to faktor*, adgang*, tilgang*
    da: nulstil*, tilbakestill*
    fi: vahvist*, kertakäyt*, kirjaut*, turva*, todenn*, tunnist*, varmenn*, aktivoi*, pääsy*
    cs: ověř*, overov*, overen*, potvrz*, potvrd*, přihl*, prihl*, jednoráz*, bezpečnost*
    hu: ellenőrz*, hitelesít*, megerősít*, bejelentkez*, belép*, egyszer*, biztonsági
    ro: verificare, confirmare, autentific*, securitate, conectare
    hr: potvrd*, verifikac*, provjer*, prijav*, jednokratn*, sigurnos*
    el: επαλήθευσ*, επιβεβαίωσ*, σύνδεσ*, ασφαλεί*, μίας χρήσης
    id: verifikasi, konfirmasi, keamanan, masuk, pengesahan, sekali pakai
    vi: xác minh, xác thực, xác nhận, đăng nhập, bảo mật
    th: ยืนยัน, เข้าสู่ระบบ, ความปลอดภัย
    hi: सत्यापन, लॉगिन, सुरक्षा, सत्यापित
    he: אימות, אישור, כניסה, התחברות, חד פעמי, אבטחה
    fa: تایید, ورود, یکبار
    zh: 验证, 驗證, 校验, 认证, 認證, 确认, 確認, 登录, 登入, 登錄, 安全, 动态, 一次性, 身份, 激活, 注册, 註冊
    ja: 認証, 確認, 検証, ワンタイム, ログイン, サインイン, セキュリティ, 二段階, 2段階, アクセス
    ko: 인증, 확인, 로그인, 보안, 일회용, 본인
    ar: التحقق, تحقق, توثيق, التأكيد, تأكيد, الأمان, الدخول, دخول, المصادقة, لمرة واحدة, التفعيل, تفعيل, مؤقت
""")

# What else is called a code.
OTHER: Final = Words("""
    en: promo*, discount*, coupon*, voucher*, gift*, gift card, gift voucher, offer, zip, postal, post, area, country
    en: dial*, dialling, error*, status, exit, response, http, source, dress, qr, bar, sort, swift, bic, tax, product*
    en: item, style, color, colour, tracking, booking, reservation, referral, refer, invite, invitation, affiliate
    en: partner, creator, course, class, event, currency, airport, redeem*, redemption, reward*, sale, of conduct
    en: conduct, review, freeze, base, snippet*, sample*, editor, morse, legacy, low, clean, write, writing, wrote
    en: merg*, deploy*, penal, civil, backup, back up, meeting, conference, pickup, pick up, collection, shipping
    en: license, licence, hs, sic, department, cost, project, ticket, order, customer, student, store, branch, bank
    en: agency, state, fault, stop, reason, return, diagnostic, key code, building code, vip, savings, checkout, fare
    en: rate, seat, boarding, door, gate, garage, alarm, wifi, entry, page, name, of ethics, highway, fire
    en: colour code, color code, billing, commodity, tariff, vehicle, model
    de: gutschein*, rabatt*, aktion*, promo*, fehler*, quell*, länder, landes, vorwahl, qr, bar, strich, dress
    de: buchung*, produkt*, artikel*, abhol*, einladung*, empfehlung*, steuer*, bonus*, geschenk*, vorteil*, wlan
    de: status, kunden*
    fr: promo*, réduction, remise, postal, erreur, source, barres, de conduite, client, suivi, réservation, parrain*
    fr: cadeau, avantage, pays, produit, retrait, privilège, vestimentaire, digi, porte, portail, immeuble
    fr: de la route, civil, pénal, confidentiel
    es: promoc*, promo, descuento*, cupón, postal, error, fuente, barras, conducta, cliente, seguimiento, reserva*
    es: referido*, regalo, país, producto, de área, vestimenta, ético, de envío
    pt: promoc*, promo, desconto*, cupom, cupão, postal, erro, fonte, barras, conduta, cliente, rastre*, reserva*
    pt: indicação, presente, produto, do produto, promocional
    it: promo*, sconto, coupon, buono, postale, errore, sorgente, a barre, condotta, cliente, fiscale, tracciamento
    it: spedizione, prenotazione, invito, regalo, prodotto, avviamento
    nl: kortings*, actie*, promo*, fout, bron, post, land, streepjes, boeking*, reserverings*, cadeau*, track*
    pl: promoc*, rabat*, zniżk*, pocztow*, błęd*, źródłow*, kresk*, rezerwac*, kierunkow*, odbioru, produkt*, polec*
    tr: promosyon*, indirim*, kampanya*, kupon*, hediye*, posta, hata, kaynak, barkod, rezervasyon*, takip, ülke, alan
    tr: ürün, davet
    ru: промо*, скид*, купон*, почтов*, ошибк*, исходн*, штрих*, бронир*, подароч*, отслеж*, стран*, товар*, приглас*
    ru: трек*
    sv: rabatt*, kampanj*, erbjudande*, post, fel, käll, streck, boknings, presentkort*, lands, produkt*, hämt*
    da: rabat*, fejl, feil, kilde, gavekort*, strek, streg
    fi: alennus*, posti*, virhe*, lähde*, viiva*, varaus*
    zh: 优惠, 優惠, 折扣, 促销, 邮政, 郵遞, 错误, 錯誤, 源代, 邀请, 邀請, 二维, 兑换, 取件, 提货, 条形, 预订, 国家
    zh: 推荐, 登录密码
    ja: クーポン, 割引, 優待, エラー, ソース, 郵便, 招待, 予約, ギフト, 商品, バー, プロモ, 国, 紹介, 注文, 会員, 追跡
    ko: 쿠폰, 할인, 프로모션, 오류, 에러, 우편, 초대, 예약, 소스, 상품, 추천, 국가, 바코드
    ar: خصم, الخصم, ترويجي, الترويجي, بريدي, البريدي, خطأ, الخطأ, المصدر, القسيمة, الحجز, الدولة, دعوة, المنتج
""")

# What numbers are called that are no codes.
NUMBERED: Final = Words("""
    en: order, orders, invoice, receipt, ticket, case, reference, ref, tracking, shipment, parcel, package, customer
    en: client, account, acct, member*, policy, contract, transaction, payment, booking, reservation, itinerary, pnr
    en: flight, room, seat, gate, phone, tel, telephone, call, fax, mobile, dial, ext, extension, zip, iban, bic, card
    en: ending, ends, vat, tax, id, number, no, nr, num, build, version, ver, release, page, pages, street, suite, ste
    en: floor, box, license, licence, serial, isbn, sku, item, article, qty, quantity, total, amount, price, balance
    en: points, score, ip, port, since, copyright, founded, year, issue, request, bug, pull, commit, model, size
    en: last digits, last four digits, last 4 digits, weight, incident, job, quote, subscription, statement
    en: confirmation number, train, bus, coach, locker, meeting id, building, lot, unit, apartment, apt, rfc, chapter
    en: section, paragraph, act, registered, company, station, channel, batch, device id, error, status, http
    en: gift card, credit, calories, steps, visitors, users, views, followers, error code, only, over, about, nearly
    en: more than, up to, least, from, until, between, than, around, almost, approximately
    de: bestellung, auftrag*, bestell*, rechnung*, vorgang*, kunden*, konto*, vertrag*, aktenzeichen, referenz*
    de: buchung*, sendung*, paket*, ticket*, tel*, telefon*, fax, fall, plz, seite, hausnummer, *nummer, nr, betrag
    de: summe, preis, endet auf, endend auf, endziffern, mitglied*, zimmer, flug, zug, platz, jahr, seit, version
    de: steuer*, ust, hrb, punkte, stand, az, beleg*, nummer, über, etwa, rund, mehr als
    fr: commande, facture, numéro, n°, no, dossier, client, référence, réf, réservation, billet, colis, suivi, compte
    fr: contrat, tél, téléphone, siret, siren, montant, total, prix, vol, chambre, cedex, version, rcs, carte
    fr: terminant
    es: pedido, factura, número, nº, núm, cliente, referencia, reserva, billete, envío, seguimiento, cuenta, contrato
    es: teléfono, tel, importe, total, precio, vuelo, habitación, terminada en, termina en, tarjeta, expediente, cif
    es: nif, caso, versión, póliza, ticket
    pt: encomenda, pedido, fatura, número, nº, cliente, referência, reserva, bilhete, envio, conta, contrato, telefone
    pt: valor, total, preço, voo, quarto, final, cartão, nif, cnpj, cpf, protocolo, nota fiscal, cep, chamado
    it: ordine, fattura, numero, n., cliente, riferimento, rif, prenotazione, biglietto, spedizione, conto, contratto
    it: telefono, tel, importo, totale, prezzo, volo, camera, carta, che termina, p.iva, partita iva, pratica, cap
    nl: bestelling, bestel*, factuur*, *nummer, klant*, referentie*, boeking*, ticket*, zending*, rekening*, tel
    nl: telefoon*, bedrag, totaal, prijs, vlucht, kamer, eindigend op, kvk, btw, dossier*, kenmerk
    pl: zamówieni*, faktur*, numer*, nr, klient*, rezerwac*, bilet*, przesyłk*, kont*, umow*, tel, telefon*, kwot*
    pl: razem, cen*, lot, pokój, nip, regon, krs, zgłoszeni*, paczk*, karty
    tr: sipariş*, fatura*, numara*, no, müşteri*, referans*, rezervasyon*, bilet*, kargo*, gönderi*, hesap*, tel
    tr: telefon*, tutar*, toplam*, fiyat*, uçuş, oda, ile biten, vergi, mersis, takip, talep
    ru: заказ*, счет*, номер*, №, клиент*, брон*, билет*, посылк*, отправлен*, договор*, тел, телефон*, сумм*, итого
    ru: цен*, рейс*, инн, огрн, кпп, обращени*, заявк*, карт*, трек
    uk: замовлен*, рахун*, номер*, клієнт*
    sv: order*, faktura*, *nummer, nr, kund*, referens*, bokning*, biljett*, kolli*, konto*, tel, telefon*, belopp
    sv: summa, pris, flyg, rum, org, slutar på, ärende*, ocr, försändelse*
    da: ordre*, faktura*, kunde*, *nummer*, sag*, sak*, cvr, tlf
    fi: tilaus*, tilausnumero*, lasku*, *numero, asiakas*, viite*, puh, lähetys*
    cs: objednáv*, faktur*, číslo, zákazn*, tel
    zh: 订单*, 訂單*, 单号, 單號, 编号, 編號, 号码, 號碼, 发票, 發票, 尾号, 尾號, 电话, 電話, 手机, 手機, 金额, 金額
    zh: 客服, 热线, 航班, 运单, 工单, 账号, 帐号, 房间, 快递, 合同, 会员, 卡号, 备案, 邮编
    ja: 注文番号, 注文, 請求書, 番号, 伝票, お問い合わせ, 電話, 金額, 合計, 便, 会員, 口座, 末尾, 下4桁, お客様番号
    ja: 受付番号, 追跡番号, 予約番号, 〒, 号室, 管理番号, 型番
    ko: 주문번호, 주문, 번호, 송장, 운송장, 고객센터, 전화, 금액, 합계, 계좌, 카드, 예약번호, 사업자, 접수번호
    ko: 고객번호
    ar: طلب, الطلب, رقم, الفاتورة, فاتورة, هاتف, الهاتف, المبلغ, الإجمالي, الحجز, الشحنة, الحساب, ينتهي, تنتهي
    ar: البطاقة
""")

# What comes right behind a number that counts or measures something, or is part of a date.
UNIT: Final = Words("""
    en: min, mins, minute*, hour*, hrs, hr, h, day*, sec, secs, second*, week*, month*, year*, px, pt, km, kg, g, mb
    en: gb, kb, tb, ms, points, pts, users, people, items, times, euro*, dollar*, eur, usd, gbp, chf, pln, cad, aud
    en: inr, jpy, cny, words, lines, miles, steps, kwh, kcal, calories, followers, views, members, customers
    en: developers, companies, employees, downloads, stars, am, pm, characters, digits, percent, rows, requests
    en: events, messages, emails, photos, reviews, january, february, march, april, june, july, august, september
    en: october, november, december, sq, ft, lbs, jan, feb, mar, apr, jun, jul, aug, sep, oct, nov, dec, pounds
    en: rewards, credits, coins, seats, tickets, street, avenue, ave, road, rd, blvd, boulevard, lane, drive, square
    en: st, or more, participants, attendees, copies, tokens
    de: minuten, stunde*, tag, tage, tagen, sekunde*, woche*, monat*, jahr*, uhr, punkte, stück, januar, februar, märz
    de: mai, juni, juli, oktober, dezember, teilnehmer*, kunden, nutzer*
    fr: heure*, jour*, seconde*, semaine*, mois, ans, janvier, février, mars, avril, juin, juillet, août, septembre
    fr: octobre, novembre, décembre, rue, avenue, places
    es: minuto*, hora*, día*, segundo*, semana*, mes, meses, año*, puntos, de enero, de febrero, de marzo, de abril
    pt: dia, dias, mês, anos, pontos, reais, de janeiro, de fevereiro, de março
    it: minuti, ore, giorni, secondi, settimane, mesi, anni, punti, gennaio, febbraio, maggio, giugno, luglio, ottobre
    nl: minuten, uur, uren, dagen, weken, maanden, jaar, punten
    pl: minut*, godzin*, dni, sekund*, tygodni*, miesięc*, zł, pkt, zlotych, punkt*, gr
    tr: dakika*, saat*, gün*, saniye*, hafta*, ay, yıl*, tl, puan*, lira*, adet
    ru: минут*, мин, час*, сек*, дн*, день, недел*, месяц*, год*, г, руб*, р, балл*, коп, шт
    sv: minut*, timmar, timme*, dagar*, sekund*, veckor, månad*, kr, kronor, sek, poäng, kl
    da: minutter, timer, dage, dager, kr, dkk, nok
    fi: minuut*, tunti*, tuntia, päivä*, pistettä
    zh: 分钟, 分鐘, 分, 秒, 小时, 小時, 天, 日, 月, 年, 元, 人, 次, 件, 个, 個, 号, 積分, 积分, 块, 万, 路
    ja: 分, 秒, 時間, 時, 日, 月, 年, 円, ポイント, 件, 人, 名, 個, 号, 回, 桁, 番地
    ko: 분, 초, 시간, 시, 일, 월, 년, 원, 명, 개, 건, 회, 포인트, 자리
    ar: دقيقة, دقائق, ساعة, ساعات, يوم, أيام, ريال, درهم, جنيه, ثانية, نقطة, سنة
""")

# What comes of typing it in.
PURPOSE: Final = Words("""
    en: approve, complete, continue, finish, proceed, pay, open, unlock, prove, get in, get started
    de: freigeben, freizugeben, fortfahren, fortzufahren, abschließen, abzuschließen, weiter
    fr: continuer, finaliser, poursuivre, terminer, approuver, signer
    es: continuar, autorizar, completar, finalizar, seguir
    pt: continuar, autorizar, concluir, prosseguir
    it: continuare, completare, autorizzare, proseguire
    nl: doorgaan, verder, goedkeuren, afronden
    pl: kontynuować, dokończyć, zatwierdzić
    tr: devam, tamamla*
    ru: продолж*, заверш*, оплат*
    sv: fortsätt*, slutför*, godkänn*
    da: fortsæt*, fortsett*, fuldfør*, fullfør*
    zh: 继续, 繼續, 完成
    ja: 続行, 完了
    ko: 계속, 완료
    ar: متابعة, إكمال, إتمام
""")

# Whose it is.
YOUR: Final = Words("""
    en: your, you
    de: ihr, ihre, dein, deine
    fr: votre, ton
    es: tu, su
    pt: seu, sua, teu, tua
    it: tuo, tua, suo, sua
    nl: je, jouw, uw
    pl: twój, twoje, państwa
    tr: *unuz, *iniz, *ınız, *un, *niz
    ru: ваш, твой
    uk: ваш
    sv: din, ditt, er
    da: din, dit, ditt
    fi: *koodisi
    cs: váš
    hu: *kódja, *kódod, az ön
    ro: dumneavoastră, tău
    el: σας, σου
    id: anda, kamu
    vi: của bạn
    hi: आपका, आपकी
    he: שלך
    fa: شما
    zh: 您的, 你的, 您, 你
    ja: お客様の, あなたの
    ko: 귀하, 고객님, 회원님
    ar: الخاص بك, الخاصة بك
""")

# What is said of typing in a code, or of using it.
ENTER: Final = Words("""
    en: enter, use, using, type, type in, copy, paste, input, provide, with
    de: geben sie, gib, tippe*, trage, tragen sie, füge, verwenden sie, verwende, nutze, nutzen sie, eingabe, mit
    fr: saisissez, entrez, utilisez, saisis, entre, utilise, tapez
    es: introduce, introduzca, ingresa, ingrese, usa, use, utiliza, utilice, escribe
    pt: use, utilize, digite, insira, introduza, informe
    it: inserisci, inserire, usa, utilizza, digita
    nl: voer, gebruik, vul
    pl: wpisz, użyj, wprowadź, podaj
    tr: girin, giriniz, kullanın, kullanarak
    ru: введите, используйте, укажите
    sv: ange, använd, skriv in, fyll i
    da: indtast, brug, bruk, skriv inn, angi, tast
    fi: syötä, käytä
    cs: zadejte, použijte
    hu: adja meg, írja be
    id: masukkan, gunakan
    zh: 输入, 輸入, 使用, 填写, 填寫
    ja: 入力, 使用
    ko: 입력, 사용
    ar: أدخل, استخدم, إدخال
""")

"""The words by which links are known, in the languages of the mails.

A table has a line for each language: words and phrases, set apart by commas, as `Words` takes them.
"""

from __future__ import annotations

from typing import Final

from sessiond.core.finding.folding import Words

PASSWORD: Final = Words("""
    en: password*, passcode, passphrase, credentials
    de: passwort*, kennwort*, zugangsdaten, anmeldedaten
    fr: mot de passe, identifiants
    es: contraseña*, clave, credenciales
    pt: senha*, palavra passe, credenciais
    it: password, credenziali
    nl: wachtwoord*, inloggegevens
    pl: hasło, hasła, hasłem, poświadcze*, danych logowania
    tr: şifre*, parola*, kimlik bilgi*
    ru: парол*, учетные данные
    sv: lösenord*
    da: adgangskode*, kodeord*, passord*
    fi: salasana*
    cs: hesl*
    hu: jelszó*, jelszav*
    ro: parola, parolei
    hr: lozink*, zaporka, zaporke
    el: κωδικ*, συνθηματικ*
    id: kata sandi, sandi
    vi: mật khẩu
    th: รหัสผ่าน
    hi: पासवर्ड
    he: סיסמה, סיסמתך, הסיסמה
    fa: رمز عبور, گذرواژه
    zh: 密码, 密碼, 凭据
    ja: パスワード, 資格情報
    ko: 비밀번호, 자격 증명
    ar: كلمة المرور, كلمة السر, كلمة مرور, معلومات الدخول, بيانات الدخول
""")

# What is done with a password when it was lost. With PASSWORD beside it.
RENEW: Final = Words("""
    en: reset*, change, changing, new, forgot, forgotten, recover*, choose, choosing, set, set up, setting, create
    en: update
    de: zurücksetz*, zurückzusetz*, neu*, änder*, vergess*, ersetz*, festleg*, wiederherst*, zurückgesetzt
    fr: réinitialis*, nouveau, changer, changez, changement, oubli*, modifier, modifiez, récupér*, définir, créer
    fr: choisir
    es: restablecer, restablece, restablezca, restablecimiento, cambiar, cambia, cambie, nueva, olvid*, recuper*
    es: crear, restaur*, reestablec*
    pt: redefin*, alterar, altere, nova, esquec*, recuper*, repor, criar, reposição
    it: reimposta*, ripristin*, cambia, cambiare, nuova, dimentic*, recuper*, impost*, crea, reset*
    nl: herstel*, opnieuw, nieuw*, wijzig*, vergeten, instellen, reset*, resetten
    pl: zresetuj*, reset*, zmień, zmian*, nowe, ustaw*, odzysk*, przywróc*
    tr: sıfırla*, yenile*, değiştir*, unut*, yeni, oluştur*, belirle*
    ru: сброс*, восстанов*, измен*, новый, забыл*, смен*, задать
    uk: скин*, віднов*, змін*, новий
    sv: återställ*, nytt, ändra, byt, byta, glömt, välj
    da: nulstil*, tilbakestill*, ny, nyt, nytt, glemt, skift, endre, ændre, gendan*
    fi: nolla*, palaut*, vaihda, vaiht*, uusi, unoh*
    cs: obnov*, reset*, nové, změn*, zmen*, zapomenut*
    hu: visszaállít*, új, módosít*, elfelejt*
    ro: reset*, nouă, schimb*
    hr: ponovn*, promijen*, nova, novu, resetir*, postav*
    el: επαναφορά*, νέο, αλλαγή, αλλάξ*, επαναφέρ*
    id: reset*, atur ulang, setel ulang, baru, lupa, ubah
    vi: đặt lại, mới, đổi, quên
    th: รีเซ็ต, ตั้ง, ลืม, เปลี่ยน
    hi: रीसेट, नया, बदल
    he: איפוס, אפס, חדשה, שינוי, שכחת, לאפס
    fa: بازنشانی, تغییر, بازیابی
    zh: 重置, 重设, 重設, 找回, 修改, 新, 设置, 設定, 更改, 忘记, 忘記
    ja: 再設定, リセット, 変更, 忘れ, 新しい, 再発行
    ko: 재설정, 초기화, 변경, 찾기, 새, 잊
    ar: إعادة تعيين, استعادة, تغيير, جديدة, نسيت, تعيين
""")

# To confirm that an address is one's own.
VERIFY: Final = Words("""
    en: verify*, verification, confirm*, activate*, activation, validate*, validating, opt in, complete registration
    en: complete your registration, complete your sign up, complete sign up, finish signing up, finish registration
    en: complete your account, finish creating, finish setting up, that's me, it was me, this was me, yes it's me
    de: bestätig*, aktivier*, verifizier*, freischalt*, registrierung abschließen, anmeldung abschließen
    fr: confirm*, vérifi*, activ*, valid*, terminer l'inscription, finaliser
    es: confirm*, verific*, activa*, valida*, completar el registro, completar registro
    pt: confirm*, verific*, ativ*, valid*, concluir o cadastro, concluir cadastro, concluir registo
    it: conferm*, verific*, attiva*, convalid*, completa la registrazione, completa registrazione
    nl: bevestig*, verifi*, activeer*, activeren, registratie voltooien
    pl: potwierd*, zweryfik*, weryfik*, aktywuj*, aktywac*, dokończ rejestrac*
    tr: doğrula*, onayla*, etkinleştir*, aktifleştir*, aktive*, kaydı tamamla*, kaydını tamamla*
    ru: подтверд*, подтвержд*, активир*, актива*, верифиц*, завершить регистрац*
    uk: підтверд*, активу*, перевір*
    sv: bekräft*, verifier*, aktiver*, slutför registrer*
    da: bekræft*, bekreft*, verificer*, verifiser*, aktivér*, aktiver*, fullfør registrer*
    fi: vahvist*, aktivoi*, varmist*
    cs: potvrd*, potvrz*, ověř*, over*, aktivova*
    hu: megerősít*, ellenőriz*, aktivál*, visszaigazol*
    ro: confirm*, verific*, activ*
    hr: potvrd*, verificir*, aktivir*
    el: επιβεβαι*, επαληθεύ*, επαλήθευ*, ενεργοποι*
    id: verifikasi, konfirmasi, aktifkan
    vi: xác minh, xác nhận, kích hoạt, xác thực
    th: ยืนยัน
    hi: सत्यापित, पुष्टि, सत्यापन
    he: אימות, אשר, אישור, הפעל, לאמת, אמת
    fa: تایید, فعال
    zh: 验证, 驗證, 确认, 確認, 激活, 启用, 啟用, 认证, 認證
    ja: 確認, 認証, 有効化, 本登録, 登録を完了, 登録完了
    ko: 인증, 확인, 활성화
    ar: تأكيد, تفعيل, تحقق, التحقق, أكد, فعل, توثيق
""")

SIGN_IN: Final = Words("""
    en: sign in, signing in, signin, log in, login, logging in, log on, magic link, sign on, approve, authorize
    en: authorise
    de: anmeld*, anzumelden, melden sie sich, melde dich, meld dich, loggen sie sich, logge dich, einloggen
    de: einzuloggen, login*
    fr: connexion, connecter, connectez, connecte, accéder, identifier
    es: iniciar sesión, inicia sesión, inicio de sesión, acced*, acceso, entrar, ingresar
    pt: entrar, iniciar sessão, acessar, login, acesse, início de sessão, aceder
    it: accedi, accedere, accesso, entra
    nl: inlog*, log in, aanmelden
    pl: zaloguj*, logowani*, zalogow*
    tr: giriş*, oturum aç*
    ru: войти, войдите, вход*, войди
    uk: увійти, увійдіть, вхід, входу
    sv: logga in, inloggning*
    da: log ind, logge ind, logg inn, logge inn, innlogging*, pålogging*
    fi: kirjaudu*, kirjautu*, sisään
    cs: přihlás*, přihláš*, prihlás*
    hu: bejelentkez*, belép*
    ro: conect*, autentific*
    hr: prijav*
    el: σύνδεση*, συνδεθ*, είσοδ*
    id: masuk
    vi: đăng nhập
    th: เข้าสู่ระบบ
    hi: लॉगिन, लॉग इन, साइन इन
    he: התחבר*, כניסה, להתחבר, היכנס
    fa: ورود, وارد
    zh: 登录, 登入, 登錄
    ja: ログイン, サインイン
    ko: 로그인
    ar: تسجيل الدخول, الدخول, دخول
""")

# What is confirmed when it is an address of one's own.
OWN: Final = Words("""
    en: email*, e mail*, mail, address, account, registration, subscription, sign up, signup, membership, profile
    de: e mail*, mail*, adresse, konto, registrierung, anmeldung, abo, account
    fr: e mail, mail, adresse, compte, inscription, abonnement, courriel
    es: correo, e mail, cuenta, registro, suscripción, dirección, alta
    pt: e mail, correio, conta, cadastro, registo, registro, inscrição, endereço
    it: e mail, indirizzo, account, registrazione, iscrizione, posta
    nl: e mail*, mail*, adres, account, registratie, aanmelding, inschrijving
    pl: e mail, adres*, konto, rejestrac*, mail*
    tr: e posta*, hesab*, adres*, kayd*, kayıt, üyeli*
    ru: почт*, e mail, адрес*, аккаунт*, регистрац*, учетн*, подписк*
    uk: пошт*, адрес*, обліков*, реєстрац*
    sv: e post*, konto*, adress*, registrering*, mejl*
    da: e mail*, e post*, konto*, adresse*, tilmelding*, registrering*
    fi: sähköposti*, tili*, osoit*
    cs: e mail*, účet, účtu, adres*, registrac*
    hu: e mail*, fiók*, regisztráció*
    zh: 邮箱, 郵箱, 邮件, 電子郵件, 账号, 帐号, 账户, 帳號, 帳戶, 注册, 註冊, 地址
    ja: メール, アドレス, アカウント, 登録
    ko: 이메일, 메일, 계정, 가입, 주소
    ar: بريد*, البريد, حساب*, الحساب, التسجيل, العنوان
""")

# What else can be confirmed.
APPOINTMENT: Final = Words("""
    en: appointment*, order*, booking*, attendance, delivery, reservation*, payment*, purchase*, rsvp, visit, transfer
    en: shipment, schedule, meeting*, event, participation, slot, seat*, quote, donation, withdrawal, transaction
    de: termin*, bestellung*, buchung*, teilnahme, lieferung*, zahlung*, kauf, auftrag*
    fr: rendez vous, commande*, réservation*, présence, livraison*, paiement*, participation, achat
    es: cita, pedido*, reserva*, asistencia, entrega, pago*, compra*
    pt: consulta, pedido*, reserva*, presença, entrega, pagamento*, encomenda*
    it: appuntamento, ordine, prenotazione, presenza, consegna, pagamento
    nl: afspraak, bestelling*, boeking*, reservering*, bezorging, betaling*, aanwezigheid
    pl: wizyt*, zamówieni*, rezerwac*, dostaw*, płatnoś*, obecnoś*
    tr: randevu*, sipariş*, rezervasyon*, teslimat, ödeme*
    ru: заказ*, запис*, бронирован*, доставк*, оплат*, участие
    sv: bokning*, order*, leverans*, betalning*, närvaro, besök*
    zh: 订单, 預約, 预约, 付款, 收货
    ja: 予約, 注文, 支払, 配送
    ko: 예약, 주문, 결제, 배송
    ar: طلبك, الطلب, موعد, الحجز, الدفع
""")

# Links that let one in who was asked by another: neither a sign-in nor one's own address.
INVITATION: Final = Words("""
    en: invited, invitation*, invite, join, joining
    de: eingeladen, einladung*, beitreten
    fr: invité*, invitation*, rejoindre
    es: invit*, unirte, únete
    pt: convid*, convite*
    it: invit*, unisciti
    nl: uitgenodigd, uitnodiging*
    pl: zaprosz*, zapros*, zaprasza*, dołącz*
    tr: davet*, katıl*
    ru: приглас*, приглаш*, присоедин*
    sv: inbjud*, bjudit, bjuder
    da: inviter*, invitasjon*, indbyd*
    fi: kutsu*
    zh: 邀请, 邀請, 加入
    ja: 招待, 参加
    ko: 초대, 참여
    ar: دعوة, دعوت*, انضم*
""")

# What is written on links that do something else.
ELSEWHERE: Final = Words("""
    en: how to, why, visit website, our website, unsubscribe*, opt out, preferences, privacy, terms, policy, help
    en: support, contact, faq, view in browser, view in your browser, in a browser, having trouble viewing
    en: view online, view this email, web version, facebook, twitter, instagram, linkedin, youtube, tiktok, app store
    en: google play, download, cookies, imprint, legal, learn more, read more, blog, settings, report, revoke, not me
    en: wasn't me, wasn't you, not you, deny, cancel, decline, secure my account, secure your account, delete, remove
    en: block, manage, feedback, survey, refer, careers, documentation, docs, guide, review activity, view order
    en: track, invoice, notification settings, email settings, stop receiving, upgrade, shop, buy, pay
    de: abmelden, abbestellen, datenschutz*, impressum, agb, hilfe*, kontakt*, im browser, online ansehen, webversion
    de: einstellungen, abmeldung, herunterladen, mehr erfahren, nicht ich, ablehnen, stornieren, widerrufen
    de: newsletter abbestellen, austragen, rechnung*, nutzungsbedingungen, konto sichern, konto schützen
    fr: désabonn*, désinscri*, se désabonner, confidentialité, mentions légales, conditions, aide, contact*, voir dans
    fr: afficher dans, version en ligne, préférences, télécharg*, en savoir plus, annul*, en ligne, pas moi, facture
    es: darse de baja, darte de baja, cancelar suscripción, cancelar la suscripción, privacidad, aviso legal, ayuda
    es: contact*, ver en el navegador, ver en tu navegador, ver en navegador, versión web, preferencias, descarg*
    es: más información, no fui yo, cancel*, términos, desuscri*, factura, leer más
    pt: cancelar, descadastr*, privacidade, termos, ajuda, contat*, contact*, ver no navegador
    pt: visualizar no navegador, versão web, preferências, baixar, saiba mais, não fui eu, remover, transferir
    it: disiscri*, annulla*, cancella*, privacy, termini, aiuto, contatt*, visualizza nel browser, versione web
    it: preferenze, scarica, scopri di più, non sono io, assistenza
    nl: uitschrijven, afmelden, privacy*, voorwaarden, hulp, contact, bekijk in, online bekijken, bekijk online
    nl: voorkeuren, downloaden, meer informatie, niet ik, annuleren
    pl: wypisz*, rezygn*, prywatnoś*, regulamin*, pomoc*, kontakt*, zobacz w przeglądarce, wersja online, preferencj*
    pl: pobierz, więcej, to nie ja, anuluj*
    tr: abonelikten, aboneliği iptal, gizlilik, koşullar*, yardım*, iletişim, tarayıcıda görüntüle*, tercihler*, indir
    tr: ben değilim, iptal
    ru: отписаться, отпишитесь, отписк*, конфиденциальност*, условия, помощь, поддержк*, посмотреть в браузере
    ru: открыть в браузере, веб версия, настройк*, скачать, подробнее, не я, отмен*
    sv: avregistrera*, avprenumerera*, avsluta prenumeration*, integritet*, villkor*, hjälp*, kontakt*
    sv: visa i webbläsare*, inställningar, ladda ner, läs mer, inte jag, avbryt
    da: afmeld*, avmeld*, meld av, privatliv*, personvern*, vilkår, hjælp, hjelp, vis i nettleser*, vis i browser*
    da: indstillinger
    zh: 退订, 退訂, 取消订阅, 取消, 隐私, 隱私, 条款, 條款, 帮助, 幫助, 联系, 聯絡, 在浏览器中查看, 在瀏覽器中檢視
    zh: 网页版, 下载, 下載, 偏好, 了解更多, 不是我
    ja: 配信停止, 解除, プライバシー, 規約, ヘルプ, お問い合わせ, ブラウザで表示, ブラウザで見る, ダウンロード
    ja: メール設定, 配信設定, 詳細, キャンセル, 退会
    ko: 수신거부, 수신 거부, 구독 취소, 개인정보, 약관, 도움말, 고객센터, 브라우저에서 보기, 웹에서 보기, 다운로드
    ko: 자세히, 취소
    ar: إلغاء, الخصوصية, الشروط, المساعدة, مساعدة, اتصل, عرض في المتصفح, تحميل, المزيد, الدعم, تفضيلات
""")

# What is written on links that says nothing of where they lead.
CLICK: Final = Words("""
    en: click, here, link, button, continue, get started, start, open, go to, yes, tap, follow, paste, this url
    en: address, proceed, let's go, take me, enter, visit, browser, below, url, verify, complete, finish, welcome
    de: ja, hier, klick*, weiter, link*, los geht*, starten, öffnen, fortfahren, jetzt, schaltfläche
    fr: oui, ici, cliqu*, lien, continuer, commencer, ouvrir, bouton, suivant
    es: sí, aquí, clic, haz clic, enlace, continuar, empezar, comenzar, abrir, botón, pulsa, siguiente
    pt: sim, aqui, cliqu*, link, continuar, começar, abrir, botão
    it: qui, clicca*, link, continua, inizia, apri, pulsante, seguente
    nl: hier, klik*, link, doorgaan, begin, openen, knop, verder
    pl: tak, tutaj, klikn*, link*, kontynuuj, dalej, rozpocznij, przycisk, odnośnik*
    tr: evet, buraya, tıkla*, bağlantı*, devam, başla*, buton*
    ru: да, здесь, сюда, нажм*, ссылк*, перей*, продолж*, начать, кнопк*
    uk: тут, натисн*, посилан*, перей*
    sv: ja, här, klick*, länk*, fortsätt, kom igång, knapp*
    da: her, klik*, klikk*, link*, lenke*, fortsæt, fortsett, knap*
    fi: tästä, täällä, linkki*, jatka, napsauta, klikkaa*
    cs: zde, sem, klikn*, odkaz*, pokračovat, tlačít*
    hu: ide, kattint*, link*, tovább
    id: di sini, klik, tautan, lanjut*
    vi: đây, nhấp, liên kết, bấm
    th: ที่นี่, คลิก, ลิงก์
    hi: यहां, यहाँ, क्लिक, लिंक
    he: כאן, לחץ, לחצו, קישור
    fa: اینجا, کلیک, لینک
    zh: 是的, 点击, 點擊, 点此, 链接, 連結, 此处, 這裡, 继续, 按钮, 这里, 地址
    ja: はい, こちら, クリック, リンク, 次の, 下記, ボタン, url, 以下
    ko: 예, 네, 여기, 클릭, 링크, 계속, 버튼, 아래
    ar: نعم, هنا, اضغط, انقر, الرابط, رابط, متابعة, الزر, استمر
""")
